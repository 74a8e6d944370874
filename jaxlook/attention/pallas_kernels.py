"""Bodies of the attention kernels, for Triton (GPU) and Mosaic (TPU).

A program handles one block of one group (one sequence and head). It loops only
over the blocks within its distances: a band of width w costs O(T w), the causal
triangle half of the square. `jaxlook.attention.pallas_launch` launches them.

Dot products accumulate in float32. Float32 operands are multiplied in full
precision (`Precision.HIGHEST`: IEEE in Triton, fp32 contraction in Mosaic);
`jax_default_matmul_precision` has no effect. Attention weights and their
gradients are rounded to bfloat16 or float16 if the inputs are, as in `jax.nn`.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from jaxlook.attention.masks import DistanceRanges, in_ranges

Platform = Literal["gpu", "tpu"]

# The smallest side of a dot in Triton, and of a bfloat16 tile on a TPU.
MIN_SIDE = 16


class Tiling(NamedTuple):
  """Static settings of the kernels, and the sizes of blocks and padding."""

  ranges: DistanceRanges
  scale: float
  queries: int  # Positions in a block of queries.
  keys: int  # Positions in a block of keys.
  rows: int  # Padded length, a multiple of both.
  columns: int  # Padded head width.
  platform: Platform
  interpret: bool


def forward_kernel(query_ref, key_ref, value_ref, out_ref, lse_ref, *, tiling):
  """Computes the online softmax of one block of queries over their keys."""
  precise = out_ref.dtype
  lowest = float(jnp.finfo(precise).min)
  first_query = _program(tiling) * tiling.queries
  query = query_ref[...]

  def step(block, carry):
    out, top, total = carry
    keys = pl.ds(block * tiling.keys, tiling.keys)
    mask_TxS = _mask(first_query, block * tiling.keys, tiling)
    scores_TxS = tiling.scale * _dot(query, key_ref[keys, :], (1, 1), precise)
    scores_TxS = jnp.where(mask_TxS, scores_TxS, lowest)
    new_top = jnp.maximum(top, jnp.max(scores_TxS, axis=1, keepdims=True))
    att_TxS = jnp.exp(scores_TxS - new_top)
    fade = jnp.exp(top - new_top)
    total = fade * total + jnp.sum(att_TxS, axis=1, keepdims=True)
    value = value_ref[keys, :]
    out = fade * out + _dot(att_TxS.astype(value.dtype), value, (1, 0), precise)
    return out, new_top, total

  # The running maximum starts far above `lowest`. So a row that has seen no key
  # yet gives hidden keys weight exp(lowest - top) = 0, not exp(0) = 1.
  carry = (
    jnp.zeros((tiling.queries, tiling.columns), precise),
    jnp.full((tiling.queries, 1), lowest / 2, precise),
    jnp.zeros((tiling.queries, 1), precise),
  )
  bounds = _block_bounds(first_query, tiling)
  out, top, total = lax.fori_loop(*bounds, step, carry)
  sees_any = total > 0
  total = jnp.where(sees_any, total, 1.0)
  out_ref[...] = out / total
  lse_ref[...] = jnp.where(sees_any, top + jnp.log(total), -jnp.inf)


def query_kernel(*refs, tiling):
  """Computes the gradient of one block of queries over the keys they see."""
  *blocked, key_ref, value_ref, out_ref = refs
  query, grad, lse, delta = (ref[...] for ref in blocked)
  precise = out_ref.dtype
  first_query = _program(tiling) * tiling.queries

  def step(block, total):
    keys = pl.ds(block * tiling.keys, tiling.keys)
    key = key_ref[keys, :]
    mask_TxS = _mask(first_query, block * tiling.keys, tiling)
    scores_TxS = tiling.scale * _dot(query, key, (1, 1), precise)
    att_TxS = _weights(mask_TxS, scores_TxS - lse)
    grad_scores_TxS = _dot(grad, value_ref[keys, :], (1, 1), precise)
    grad_scores_TxS = (att_TxS * (grad_scores_TxS - delta)).astype(key.dtype)
    return total + _dot(grad_scores_TxS, key, (1, 0), precise)

  zeros = jnp.zeros((tiling.queries, tiling.columns), precise)
  bounds = _block_bounds(first_query, tiling)
  out_ref[...] = tiling.scale * lax.fori_loop(*bounds, step, zeros)


def key_value_kernel(*refs, tiling):
  """Computes gradients of one block of keys and values over its queries.

  The refs of a gradient that is not requested are None.
  """
  key_ref, value_ref, query_ref, grad_ref, lse_ref, delta_ref, *out_refs = refs
  precise = lse_ref.dtype
  first_key = _program(tiling) * tiling.keys
  key = key_ref[...]

  def step(block, totals):
    grad_key, grad_value = totals
    queries = pl.ds(block * tiling.queries, tiling.queries)
    query, grad = query_ref[queries, :], grad_ref[queries, :]
    mask_SxT = _mask(block * tiling.queries, first_key, tiling, transposed=True)
    scores_SxT = tiling.scale * _dot(key, query, (1, 1), precise)
    att_SxT = _weights(mask_SxT, scores_SxT - lse_ref[pl.ds(block, 1), :])
    if grad_value is not None:
      grad_value += _dot(att_SxT.astype(grad.dtype), grad, (1, 0), precise)
    if grad_key is not None:
      grad_scores_SxT = _dot(value_ref[...], grad, (1, 1), precise)
      grad_scores_SxT = att_SxT * (
        grad_scores_SxT - delta_ref[pl.ds(block, 1), :]
      )
      grad_key += _dot(
        grad_scores_SxT.astype(query.dtype), query, (1, 0), precise
      )
    return grad_key, grad_value

  zeros = jnp.zeros((tiling.keys, tiling.columns), precise)
  totals = tuple(None if ref is None else zeros for ref in out_refs)
  bounds = _block_bounds(first_key, tiling, transposed=True)
  totals = lax.fori_loop(*bounds, step, totals)
  for ref, total, factor in zip(
    out_refs, totals, (tiling.scale, 1.0), strict=True
  ):
    if ref is not None:
      ref[...] = factor * total


def _dot(a, b, axes: tuple[int, int], precise) -> jax.Array:
  """Contracts one axis of `a` with one of `b`, accumulating in `precise`."""
  half = jnp.finfo(a.dtype).bits < 32
  # Set explicitly for both: Mosaic supports only these two, of all that a
  # global setting may name, and HIGHEST only for float32.
  precision = lax.Precision.DEFAULT if half else lax.Precision.HIGHEST
  numbers = (((axes[0],), (axes[1],)), ((), ()))
  return lax.dot_general(
    a, b, numbers, precision=precision, preferred_element_type=precise
  )


def _mask(
  first_query, first_key, tiling: Tiling, transposed=False
) -> jax.Array:
  """Marks the visible keys of a tile: bool, TxS, or SxT if transposed."""
  axis = 1 if transposed else 0
  shape = (tiling.queries, tiling.keys)
  shape = shape[::-1] if transposed else shape
  distance = lax.broadcasted_iota(jnp.int32, shape, axis)
  distance -= lax.broadcasted_iota(jnp.int32, shape, 1 - axis)
  return in_ranges(distance + (first_query - first_key), tiling.ranges)


def _weights(mask: jax.Array, exponent: jax.Array) -> jax.Array:
  """Exponentiates to weights; 0 outside the mask, where exp may overflow."""
  lowest = float(jnp.finfo(exponent.dtype).min)
  return jnp.exp(jnp.where(mask, exponent, lowest))


def _block_bounds(first, tiling: Tiling, transposed=False) -> tuple[Any, Any]:
  """Returns the bounds of a loop over the blocks of keys that a block sees.

  Args:
    first: the first position of the block.
    tiling: the block sizes.
    transposed: whether the block holds keys and the loop runs over queries.

  Returns:
    First block and end; equal if there are no blocks.
  """
  low, high = tiling.ranges[0][0], tiling.ranges[-1][1]
  if transposed:
    start, stop, size = first + low, first + tiling.keys + high, tiling.queries
  else:
    start, stop, size = first - high, first + tiling.queries - low, tiling.keys
  start, stop = (jnp.clip(row, 0, tiling.rows) for row in (start, stop))
  # `//` also handles negative numbers, which costs many instructions on a GPU.
  divisor = np.int32(size)
  return lax.div(start, divisor), lax.div(stop + (size - 1), divisor)


def _program(tiling: Tiling) -> jax.Array:
  """The index of this program's block."""
  return pl.program_id(1 if tiling.platform == "tpu" else 0)
