"""Bodies of the attention kernels, for Triton (GPU) and Mosaic (TPU) alike.

A program takes one block of one group through the blocks that its pairs reach,
so that a band of width w costs O(T w) and the causal triangle half of the
square. `jaxlook.attention.pallas_launch` launches them.

Dots accumulate in float32. Float32 operands are multiplied in full precision
(`Precision.HIGHEST`: IEEE in Triton, fp32 contraction in Mosaic), whatever
`jax_default_matmul_precision` says; attention weights and their gradients are
rounded to the dtype of bfloat16 and float16 inputs, as in `jax.nn`.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from jaxlook.attention.masks import DistanceRanges, chosen

Platform = Literal["gpu", "tpu"]

# The side of a dot in Triton, and of a bfloat16 tile on a TPU, at the least.
LEAST = 16


class Tiling(NamedTuple):
  """What the kernels do, and how arrays are cut; static."""

  pairs: DistanceRanges
  scale: float
  queries: int  # Positions in a block of queries.
  keys: int  # Positions in a block of keys.
  rows: int  # Length with padding, a multiple of both.
  columns: int  # Head width with padding.
  platform: Platform
  interpret: bool


def forward_kernel(query_ref, key_ref, value_ref, out_ref, lse_ref, *, plan):
  """Online softmax of one block of queries over the keys that they see."""
  precise = out_ref.dtype
  lowest = float(jnp.finfo(precise).min)
  first_query = _program(plan) * plan.queries
  query = query_ref[...]

  def step(block, carry):
    out, top, total = carry
    keys = pl.ds(block * plan.keys, plan.keys)
    mask_TxS = _mask(first_query, block * plan.keys, plan)
    scores_TxS = plan.scale * _dot(query, key_ref[keys, :], (1, 1), precise)
    scores_TxS = jnp.where(mask_TxS, scores_TxS, lowest)
    new_top = jnp.maximum(top, jnp.max(scores_TxS, axis=1, keepdims=True))
    att_TxS = jnp.exp(scores_TxS - new_top)
    fade = jnp.exp(top - new_top)
    total = fade * total + jnp.sum(att_TxS, axis=1, keepdims=True)
    value = value_ref[keys, :]
    out = fade * out + _dot(att_TxS.astype(value.dtype), value, (1, 0), precise)
    return out, new_top, total

  # The running maximum starts far above `lowest`, so that a row that has met no
  # pair yet weighs the others exp(lowest - top) = 0, not exp(0) = 1.
  carry = (
    jnp.zeros((plan.queries, plan.columns), precise),
    jnp.full((plan.queries, 1), lowest / 2, precise),
    jnp.zeros((plan.queries, 1), precise),
  )
  bounds = _reached(first_query, plan)
  out, top, total = lax.fori_loop(*bounds, step, carry)
  met = total > 0
  total = jnp.where(met, total, 1.0)
  out_ref[...] = out / total
  lse_ref[...] = jnp.where(met, top + jnp.log(total), -jnp.inf)


def query_kernel(*refs, plan):
  """Gradient of one block of queries over the keys that they see."""
  *blocked, key_ref, value_ref, out_ref = refs
  query, grad, lse, delta = (ref[...] for ref in blocked)
  precise = out_ref.dtype
  first_query = _program(plan) * plan.queries

  def step(block, total):
    keys = pl.ds(block * plan.keys, plan.keys)
    key = key_ref[keys, :]
    mask_TxS = _mask(first_query, block * plan.keys, plan)
    scores_TxS = plan.scale * _dot(query, key, (1, 1), precise)
    att_TxS = _weights(mask_TxS, scores_TxS - lse)
    change_TxS = _dot(grad, value_ref[keys, :], (1, 1), precise)
    change_TxS = (att_TxS * (change_TxS - delta)).astype(key.dtype)
    return total + _dot(change_TxS, key, (1, 0), precise)

  zeros = jnp.zeros((plan.queries, plan.columns), precise)
  bounds = _reached(first_query, plan)
  out_ref[...] = plan.scale * lax.fori_loop(*bounds, step, zeros)


def key_value_kernel(*refs, plan):
  """Gradients of one block of keys and values over the queries that see them.

  Refs of what is not wanted are None.
  """
  key_ref, value_ref, query_ref, grad_ref, lse_ref, delta_ref, *out_refs = refs
  precise = lse_ref.dtype
  first_key = _program(plan) * plan.keys
  key = key_ref[...]

  def step(block, totals):
    grad_key, grad_value = totals
    queries = pl.ds(block * plan.queries, plan.queries)
    query, grad = query_ref[queries, :], grad_ref[queries, :]
    mask_SxT = _mask(block * plan.queries, first_key, plan, transposed=True)
    scores_SxT = plan.scale * _dot(key, query, (1, 1), precise)
    att_SxT = _weights(mask_SxT, scores_SxT - lse_ref[pl.ds(block, 1), :])
    if grad_value is not None:
      grad_value += _dot(att_SxT.astype(grad.dtype), grad, (1, 0), precise)
    if grad_key is not None:
      change_SxT = _dot(value_ref[...], grad, (1, 1), precise)
      change_SxT = att_SxT * (change_SxT - delta_ref[pl.ds(block, 1), :])
      grad_key += _dot(change_SxT.astype(query.dtype), query, (1, 0), precise)
    return grad_key, grad_value

  zeros = jnp.zeros((plan.keys, plan.columns), precise)
  totals = tuple(None if ref is None else zeros for ref in out_refs)
  bounds = _reached(first_key, plan, transposed=True)
  totals = lax.fori_loop(*bounds, step, totals)
  for ref, total, factor in zip(
    out_refs, totals, (plan.scale, 1.0), strict=True
  ):
    if ref is not None:
      ref[...] = factor * total


def _dot(a, b, axes: tuple[int, int], precise) -> jax.Array:
  """Contracts one axis of `a` with one of `b`, accumulating in `precise`."""
  half = jnp.finfo(a.dtype).bits < 32
  # Explicit for either: Mosaic knows no other that a global setting may name,
  # and full precision only of float32.
  precision = lax.Precision.DEFAULT if half else lax.Precision.HIGHEST
  numbers = (((axes[0],), (axes[1],)), ((), ()))
  return lax.dot_general(
    a, b, numbers, precision=precision, preferred_element_type=precise
  )


def _mask(first_query, first_key, plan: Tiling, transposed=False) -> jax.Array:
  """Which pairs of a tile are in the set: bool, TxS, or SxT if transposed."""
  axis = 1 if transposed else 0
  shape = (plan.queries, plan.keys)
  shape = shape[::-1] if transposed else shape
  distance = lax.broadcasted_iota(jnp.int32, shape, axis)
  distance -= lax.broadcasted_iota(jnp.int32, shape, 1 - axis)
  return chosen(distance + (first_query - first_key), plan.pairs)


def _weights(mask: jax.Array, exponent: jax.Array) -> jax.Array:
  """Attention weights; 0 outside the mask, where exponents may overflow."""
  lowest = float(jnp.finfo(exponent.dtype).min)
  return jnp.exp(jnp.where(mask, exponent, lowest))


def _reached(first, plan: Tiling, transposed=False) -> tuple[Any, Any]:
  """First block of keys that a block of queries sees, or reverse; and the end.

  Args:
    first: the first position of the block.
    plan: how arrays are cut.
    transposed: whether it is a block of keys, seen by blocks of queries.

  Returns:
    The bounds of a loop over blocks; equal if there are none.
  """
  low, high = plan.pairs[0][0], plan.pairs[-1][1]
  if transposed:
    start, stop, size = first + low, first + plan.keys + high, plan.queries
  else:
    start, stop, size = first - high, first + plan.queries - low, plan.keys
  start, stop = (jnp.clip(row, 0, plan.rows) for row in (start, stop))
  # On a GPU, `//` is many instructions more, for the sake of negative numbers.
  divisor = np.int32(size)
  return lax.div(start, divisor), lax.div(stop + (size - 1), divisor)


def _program(plan: Tiling) -> jax.Array:
  """Which block this program has."""
  return pl.program_id(1 if plan.platform == "tpu" else 0)
