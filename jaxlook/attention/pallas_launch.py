"""Attention over a set of pairs as Pallas kernels, for GPU and TPU.

One source serves Triton (GPU), Mosaic (TPU) and interpret mode (anywhere, for
tests). Arrays are [G, T, H], heads folded into the batch. Kernels:

  forward   a block of queries: online softmax; two matmuls a tile
  dQ        a block of queries: scores, dP, dQ; three
  dK, dV    a block of keys, tiles transposed: scores, then dV, or dP and dK

They are apart for the sake of what is not done: where no gradient flows to keys
and values, the backward pass has three matmuls a tile, none for dK and dV.

Both arrays that a program loops over are whole: behind pointers on a GPU, but
in VMEM on a TPU, with double buffers 4 T max(H, 128) elements. At its default
limit of 16 MiB that holds 8192 positions of bfloat16, 4096 of float32.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from jaxlook.attention.masks import DistanceRanges
from jaxlook.attention.pallas_kernels import (
  LEAST,
  Platform,
  Tiling,
  forward_kernel,
  key_value_kernel,
  query_kernel,
)


def forward(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  pairs: DistanceRanges,
  scale: float,
  platform: Platform = "gpu",
  blocks: tuple[int, int] | None = None,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Attention whose softmax runs over the pairs of one set.

  Args:
    query: [B, T, N, H]: float32 or bfloat16; float16 on a GPU; any float dtype
      where `interpret`.
    key: of the shape and dtype of `query`.
    value: of the shape and dtype of `query`.
    pairs: the set of distances i - j.
    scale: factor on the scores.
    platform: what the kernel is compiled for.
    blocks: queries and keys of a tile, powers of two; None for what suits.
    interpret: runs the kernel as plain JAX on any backend; slow, for tests.

  Returns:
    out [B, T, N, H] and log-sum-exps [B, N, T], both float32, or float64 for
    float64 inputs; 0 and -inf for queries that have no pair.

  Raises:
    ValueError: the platform has no such dtype.
  """
  batch, length, heads, _ = query.shape
  precise = jnp.promote_types(jnp.float32, query.dtype)
  if not pairs:
    out = jnp.zeros(query.shape, precise)
    return out, jnp.full((batch, heads, length), -jnp.inf, precise)
  plan = _plan(query, pairs, scale, platform, blocks, interpret)
  folded = [_fold(x, plan, plan.columns) for x in (query, key, value)]
  out, lse = _launch(
    forward_kernel,
    plan,
    plan.queries,
    blocked=folded[:1],
    whole=folded[1:],
    widths=[plan.columns, 1],
  )
  lse = lse[:, :length].reshape(batch, heads, length)
  return _unfold(out, query), lse


def backward(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  out: jax.Array,
  lse: jax.Array,
  grad: jax.Array,
  *,
  pairs: DistanceRanges,
  scale: float,
  key_pairs: tuple[DistanceRanges, ...],
  value_pairs: tuple[DistanceRanges, ...],
  platform: Platform = "gpu",
  blocks: tuple[int, int] | None = None,
  interpret: bool = False,
) -> tuple[jax.Array, tuple[jax.Array, ...], tuple[jax.Array, ...]]:
  """Gradients through the pairs of one set: those that are wanted, no others.

  Args:
    query: [B, T, N, H], as given to `forward`.
    key: of the shape and dtype of `query`.
    value: of the shape and dtype of `query`.
    out: [B, T, N, H] outputs of the whole softmax, which may run over more
      pairs than these; any float dtype.
    lse: [B, N, T] log-sum-exps of the whole softmax.
    grad: [B, T, N, H] cotangent of `out`, rounded to the dtype of `query`.
    pairs: the set of distances i - j that the gradient of queries sums over.
    scale: factor on the scores.
    key_pairs: sets within `pairs`; one gradient of keys for each.
    value_pairs: sets within `pairs`; one gradient of values for each.
    platform: what the kernels are compiled for.
    blocks: queries and keys of a tile, powers of two; None for what suits.
    interpret: runs the kernels as plain JAX on any backend; slow, for tests.

  Returns:
    The gradient of queries, then those of keys and of values, one per set;
    each [B, T, N, H], float32, or float64 for float64 inputs. An empty set
    gives zeros and costs nothing.

  Raises:
    ValueError: the platform has no such dtype.
  """
  precise = jnp.promote_types(jnp.float32, query.dtype)
  plan = _plan(query, pairs, scale, platform, blocks, interpret)
  grad = grad.astype(query.dtype)
  delta = jnp.sum(
    grad.astype(precise) * out.astype(precise), axis=-1, keepdims=True
  )
  lse = jnp.swapaxes(lse.astype(precise), 1, 2)[..., None]
  # Padded queries are all zeros: they add nothing to the gradient of any key.
  arrays = [_fold(x, plan, plan.columns) for x in (query, grad, key, value)]
  sums = [_fold(x, plan, 1) for x in (lse, delta)]

  (grad_query,) = _launch(
    query_kernel,
    plan,
    plan.queries,
    blocked=[*arrays[:2], *sums],
    whole=arrays[2:],
    widths=[plan.columns],
  )
  by_set = {
    some: _key_value_gradients(
      arrays,
      sums,
      plan._replace(pairs=some),
      some in key_pairs,
      some in value_pairs,
    )
    for some in dict.fromkeys(key_pairs + value_pairs)
  }
  return (
    _unfold(grad_query, query),
    tuple(_unfold(by_set[some][0], query) for some in key_pairs),
    tuple(_unfold(by_set[some][1], query) for some in value_pairs),
  )


def _key_value_gradients(
  arrays, sums, plan: Tiling, key_wanted: bool, value_wanted: bool
) -> list[Any]:
  """Gradients of keys and of values, folded; None for what is not wanted."""
  query, grad, key, value = arrays
  # One row for each block, so that the numbers of a tile lie along its columns.
  lse, delta = (x.reshape(x.shape[0], -1, plan.queries) for x in sums)
  return _launch(
    key_value_kernel,
    plan,
    plan.keys,
    blocked=[key, value if key_wanted else None],
    whole=[query, grad, lse, delta if key_wanted else None],
    widths=[plan.columns if x else None for x in (key_wanted, value_wanted)],
  )


def _launch(
  kernel: Callable[..., None], plan: Tiling, step: int, blocked, whole, widths
) -> list[Any]:
  """Runs a kernel for each group and each block of `step` rows.

  Args:
    kernel: takes a ref for each of `blocked`, `whole` and `widths`, in order;
      None for None.
    plan: how arrays are cut.
    step: rows of a block.
    blocked: list of [G, rows, any], seen by the block; the first one not None.
    whole: list of [G, any, any], seen by the group.
    widths: list of the numbers of columns of outputs.

  Returns:
    The outputs, [G, rows, width] each, in the precise dtype, by the block;
    zeros without a kernel for the empty set.
  """
  like = blocked[0]
  groups, precise = like.shape[0], jnp.promote_types(jnp.float32, like.dtype)
  vary: Any = jax.typeof(like)
  outs = [
    width
    and jax.ShapeDtypeStruct(
      (groups, plan.rows, width),
      precise,
      # Under `shard_map`, outputs differ between devices where inputs do.
      manual_axis_type=vary.manual_axis_type,
    )
    for width in widths
  ]
  if not plan.pairs:
    return jax.tree.map(lambda out: jnp.zeros(out.shape, out.dtype), outs)

  # Blocks of a group share what they loop over, so they should run in a row. On
  # a TPU the last axis of the grid moves first, on a GPU the first one.
  grid = (groups, plan.rows // step)
  tpu = plan.platform == "tpu"

  def spec(shape: tuple[int, ...], moves: bool) -> pl.BlockSpec:
    def at(*program):
      group, block = program if tpu else program[::-1]
      return group, block if moves else 0, 0

    return pl.BlockSpec((None, *shape), at)

  # Trees, in which None stays None.
  def block(x: Any) -> pl.BlockSpec:
    return spec((step, x.shape[2]), moves=True)

  def group(x: Any) -> pl.BlockSpec:
    return spec(x.shape[1:], moves=False)

  return pl.pallas_call(
    functools.partial(kernel, plan=plan),
    grid=grid if tpu else grid[::-1],
    in_specs=jax.tree.map(block, blocked) + jax.tree.map(group, whole),
    out_specs=jax.tree.map(block, outs),
    out_shape=outs,
    compiler_params=_compiler_params(plan),
    interpret=plan.interpret,
  )(*blocked, *whole)


def _compiler_params(plan: Tiling) -> Any:
  """What the compiler of the platform is told; None for interpret mode."""
  if plan.interpret:
    return None
  # Imported where needed: backends of Pallas come and go one by one, and JAX
  # 0.11 announces the end of this one for Triton.
  if plan.platform == "tpu":
    from jax.experimental.pallas import tpu

    return tpu.CompilerParams(dimension_semantics=("parallel", "parallel"))
  from jax.experimental.pallas import triton

  warps = 4 if plan.columns <= 64 else 8
  return triton.CompilerParams(num_warps=warps, num_stages=2)


def _plan(query, pairs, scale, platform, blocks, interpret) -> Tiling:
  """Blocks that suit the platform and the length, and padding to match.

  A TPU's matrix unit is 128 wide. On a GPU blocks are the largest powers of two
  that ptxas compiles for compute capabilities 8.0 and 9.0 with next to no
  registers spilled; dots in full precision take more of them.
  """
  _, length, _, width = query.shape
  bits = jnp.finfo(query.dtype).bits
  if not interpret and (
    bits > 32 or (platform == "tpu" and query.dtype == jnp.float16)
  ):
    raise ValueError(f"no {query.dtype} attention kernels on {platform}")
  columns = max(LEAST, pl.next_power_of_2(width))
  if blocks is None:
    side = 128
    if platform == "gpu":
      side = (1024 if columns * bits <= 2048 else 512) // bits
    blocks = side, side
  longest = max(LEAST, pl.next_power_of_2(length))
  queries, keys = (min(size, longest) for size in blocks)
  rows = -(-length // max(queries, keys)) * max(queries, keys)
  return Tiling(pairs, scale, queries, keys, rows, columns, platform, interpret)


def _fold(x: jax.Array, plan: Tiling, columns: int) -> jax.Array:
  """[B, T, N, H] to [B N, rows, columns], zeros where there was nothing."""
  batch, length, heads, width = x.shape
  x = jnp.swapaxes(x, 1, 2).reshape(batch * heads, length, width)
  return jnp.pad(x, ((0, 0), (0, plan.rows - length), (0, columns - width)))


def _unfold(x: jax.Array, like: jax.Array) -> jax.Array:
  """The way back from `_fold`, to the shape of `like`."""
  batch, length, heads, width = like.shape
  x = x[:, :length, :width].reshape(batch, heads, length, width)
  return jnp.swapaxes(x, 1, 2)
