"""Attention as Pallas kernels, for GPU and TPU.

The same source compiles for Triton (GPU) and Mosaic (TPU), and runs in
interpret mode on any backend, for tests. Arrays are [G, T, H]: heads are folded
into the batch. Kernels:

  forward   a block of queries: online softmax; two matmuls per tile
  dQ        a block of queries: scores, dP, dQ; three
  dK, dV    a block of keys, tiles transposed: scores, then dV, or dP and dK

They are separate so that work can be skipped: if no gradient flows to keys and
values, the backward pass has three matmuls per tile, none for dK and dV.

A program needs both arrays that it loops over as a whole. On a GPU they stay in
device memory. On a TPU they lie in VMEM: 4 T max(H, 128) elements with double
buffers. Its default limit of 16 MiB holds 8192 positions of bfloat16, 4096 of
float32.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from jaxlook.attention.masks import DistanceRanges
from jaxlook.attention.pallas_kernels import (
  MIN_SIDE,
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
  ranges: DistanceRanges,
  scale: float,
  platform: Platform = "gpu",
  blocks: tuple[int, int] | None = None,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Attends to the keys at a set of distances.

  Args:
    query: [B, T, N, H]: float32 or bfloat16; float16 on a GPU; any float dtype
      with `interpret`.
    key: shape and dtype of `query`.
    value: shape and dtype of `query`.
    ranges: the distances i - j that a query sees.
    scale: factor on the scores.
    platform: the platform that the kernel is compiled for.
    blocks: queries and keys per tile, powers of two; None to choose them.
    interpret: runs the kernel as plain JAX on any backend; slow, for tests.

  Returns:
    out [B, T, N, H] and log-sum-exps [B, N, T], both float32, or float64 for
    float64 inputs; 0 and -inf for queries that see no key.

  Raises:
    ValueError: the platform's kernels do not support the dtype.
  """
  batch, length, heads, _ = query.shape
  precise = jnp.promote_types(jnp.float32, query.dtype)
  if not ranges:
    out = jnp.zeros(query.shape, precise)
    return out, jnp.full((batch, heads, length), -jnp.inf, precise)
  tiling = _tiling(query, ranges, scale, platform, blocks, interpret)
  folded = [_fold(x, tiling, tiling.columns) for x in (query, key, value)]
  out, lse = _launch(
    forward_kernel,
    tiling,
    tiling.queries,
    blocked=folded[:1],
    whole=folded[1:],
    widths=[tiling.columns, 1],
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
  ranges: DistanceRanges,
  scale: float,
  key_ranges: tuple[DistanceRanges, ...],
  value_ranges: tuple[DistanceRanges, ...],
  platform: Platform = "gpu",
  blocks: tuple[int, int] | None = None,
  interpret: bool = False,
) -> tuple[jax.Array, tuple[jax.Array, ...], tuple[jax.Array, ...]]:
  """Computes only the requested gradients of attention.

  Args:
    query: [B, T, N, H], as given to `forward`.
    key: shape and dtype of `query`.
    value: shape and dtype of `query`.
    out: [B, T, N, H] outputs of the whole softmax, which may cover more
      distances; any float dtype.
    lse: [B, N, T] log-sum-exps of the whole softmax.
    grad: [B, T, N, H] cotangent of `out`; rounded to the dtype of `query`.
    ranges: the distances i - j that the gradient of queries sums over.
    scale: factor on the scores.
    key_ranges: one entry per requested gradient of keys: the distances to sum
      over; subsets of `ranges`.
    value_ranges: the same for gradients of values.
    platform: the platform that the kernels are compiled for.
    blocks: queries and keys per tile, powers of two; None to choose them.
    interpret: runs the kernels as plain JAX on any backend; slow, for tests.

  Returns:
    The gradient of queries, then those of keys and of values, one per entry;
    each [B, T, N, H], float32, or float64 for float64 inputs. An empty set of
    distances gives zeros at no cost.

  Raises:
    ValueError: the platform's kernels do not support the dtype.
  """
  precise = jnp.promote_types(jnp.float32, query.dtype)
  tiling = _tiling(query, ranges, scale, platform, blocks, interpret)
  grad = grad.astype(query.dtype)
  delta = jnp.sum(
    grad.astype(precise) * out.astype(precise), axis=-1, keepdims=True
  )
  lse = jnp.swapaxes(lse.astype(precise), 1, 2)[..., None]
  # Padded queries are zeros, so they add nothing to the gradients of keys.
  arrays = [_fold(x, tiling, tiling.columns) for x in (query, grad, key, value)]
  sums = [_fold(x, tiling, 1) for x in (lse, delta)]

  (grad_query,) = _launch(
    query_kernel,
    tiling,
    tiling.queries,
    blocked=[*arrays[:2], *sums],
    whole=arrays[2:],
    widths=[tiling.columns],
  )
  by_ranges = {
    each: _key_value_gradients(
      arrays,
      sums,
      tiling._replace(ranges=each),
      key_wanted=each in key_ranges,
      value_wanted=each in value_ranges,
    )
    for each in dict.fromkeys(key_ranges + value_ranges)
  }
  return (
    _unfold(grad_query, query),
    tuple(_unfold(by_ranges[each][0], query) for each in key_ranges),
    tuple(_unfold(by_ranges[each][1], query) for each in value_ranges),
  )


def _key_value_gradients(
  arrays, sums, tiling: Tiling, key_wanted: bool, value_wanted: bool
) -> list[Any]:
  """Returns folded gradients of keys and values; None if not requested."""
  query, grad, key, value = arrays
  # One row per block: in the transposed tiles, queries lie along the columns.
  lse, delta = (x.reshape(x.shape[0], -1, tiling.queries) for x in sums)
  return _launch(
    key_value_kernel,
    tiling,
    tiling.keys,
    blocked=[key, value if key_wanted else None],
    whole=[query, grad, lse, delta if key_wanted else None],
    widths=[tiling.columns if x else None for x in (key_wanted, value_wanted)],
  )


def _launch(
  kernel: Callable[..., None], tiling: Tiling, step: int, blocked, whole, widths
) -> list[Any]:
  """Runs a kernel for each group and each block of `step` rows.

  Args:
    kernel: takes one ref for each entry of `blocked`, `whole` and `widths`, in
      order; None for an entry that is None.
    tiling: the block sizes.
    step: rows per block.
    blocked: list of [G, rows, any]; a program sees its block. The first entry
      is not None.
    whole: list of [G, any, any]; a program sees all of its group.
    widths: list of the numbers of columns of the outputs.

  Returns:
    The outputs, [G, rows, width] each, float32 or wider. For an empty set of
    distances they are zeros, and no kernel runs.
  """
  outs = _output_shapes(blocked[0], tiling, widths)
  if not tiling.ranges:
    return jax.tree.map(lambda out: jnp.zeros(out.shape, out.dtype), outs)

  # Blocks of a group loop over the same arrays, so they should run one after
  # another. On a TPU the last axis of the grid varies fastest, on a GPU the
  # first.
  grid = (blocked[0].shape[0], tiling.rows // step)
  tpu = tiling.platform == "tpu"

  def spec(shape: tuple[int, ...], moves: bool) -> pl.BlockSpec:
    def at(*program):
      group, block = program if tpu else program[::-1]
      return group, block if moves else 0, 0

    return pl.BlockSpec((None, *shape), at)

  # `jax.tree.map` keeps each None as None.
  def block(x: Any) -> pl.BlockSpec:
    return spec((step, x.shape[2]), moves=True)

  def group(x: Any) -> pl.BlockSpec:
    return spec(x.shape[1:], moves=False)

  return pl.pallas_call(
    functools.partial(kernel, tiling=tiling),
    grid=grid if tpu else grid[::-1],
    in_specs=jax.tree.map(block, blocked) + jax.tree.map(group, whole),
    out_specs=jax.tree.map(block, outs),
    out_shape=outs,
    compiler_params=_compiler_params(tiling),
    interpret=tiling.interpret,
  )(*blocked, *whole)


def _output_shapes(like: jax.Array, tiling: Tiling, widths) -> list[Any]:
  """Returns shape and dtype of each output; None for a width of None."""
  vary: Any = jax.typeof(like)
  return [
    width
    and jax.ShapeDtypeStruct(
      (like.shape[0], tiling.rows, width),
      jnp.promote_types(jnp.float32, like.dtype),
      # Under `shard_map`, outputs vary over the devices as inputs do.
      manual_axis_type=vary.manual_axis_type,
    )
    for width in widths
  ]


def _compiler_params(tiling: Tiling) -> Any:
  """Returns options for the platform's compiler; None in interpret mode."""
  if tiling.interpret:
    return None
  # Imported here because JAX 0.11 announces the end of Pallas on Triton: the
  # import of one backend must not break the other.
  if tiling.platform == "tpu":
    from jax.experimental.pallas import tpu

    return tpu.CompilerParams(dimension_semantics=("parallel", "parallel"))
  from jax.experimental.pallas import triton

  warps = 4 if tiling.columns <= 64 else 8
  return triton.CompilerParams(num_warps=warps, num_stages=2)


def _tiling(query, ranges, scale, platform, blocks, interpret) -> Tiling:
  """Chooses blocks for the platform and length, and the padding they need.

  A TPU's matrix unit is 128 wide. On a GPU, blocks are the largest powers of
  two that ptxas compiles for compute capabilities 8.0 and 9.0 with almost no
  register spills; products in full precision need more registers.
  """
  _, length, _, width = query.shape
  bits = jnp.finfo(query.dtype).bits
  if not interpret and (
    bits > 32 or (platform == "tpu" and query.dtype == jnp.float16)
  ):
    raise ValueError(
      f"{query.dtype} has no attention kernels on {platform}; use another dtype"
      " or jaxlook.attention.blockwise"
    )
  columns = max(MIN_SIDE, pl.next_power_of_2(width))
  if blocks is None:
    side = 128
    if platform == "gpu":
      side = (1024 if columns * bits <= 2048 else 512) // bits
    blocks = side, side
  longest = max(MIN_SIDE, pl.next_power_of_2(length))
  queries, keys = (min(size, longest) for size in blocks)
  rows = -(-length // max(queries, keys)) * max(queries, keys)
  return Tiling(
    ranges=ranges,
    scale=scale,
    queries=queries,
    keys=keys,
    rows=rows,
    columns=columns,
    platform=platform,
    interpret=interpret,
  )


def _fold(x: jax.Array, tiling: Tiling, columns: int) -> jax.Array:
  """Folds [B, T, N, H] to [B N, rows, columns], padded with zeros."""
  batch, length, heads, width = x.shape
  x = jnp.swapaxes(x, 1, 2).reshape(batch * heads, length, width)
  return jnp.pad(x, ((0, 0), (0, tiling.rows - length), (0, columns - width)))


def _unfold(x: jax.Array, like: jax.Array) -> jax.Array:
  """Reverses `_fold`, to the shape of `like`."""
  batch, length, heads, width = like.shape
  x = x[:, :length, :width].reshape(batch, heads, length, width)
  return jnp.swapaxes(x, 1, 2)
