"""Attention in plain JAX, a few tiles of scores at a time.

The forward pass keeps a running softmax for each panel of queries over the
tiles of its keys. The backward pass computes the tiles again. Only a few tiles
exist at once, so memory is linear in the length. A short sequence is a single
tile: its whole score matrix.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlook.attention import banded
from jaxlook.attention.block_sizes import (
  MEASURED,
  BlockLimits,
  by_step,
  plan,
  varying,
)
from jaxlook.attention.blocks import Panels, Tile, lowest
from jaxlook.attention.masks import DistanceRanges, span

_STATIC = ("ranges", "scale", "limits")


def _traced_once(*static: str) -> Callable[..., Any]:
  """Returns a decorator: trace once per shape, for all layers, and inline.

  Args:
    *static: names of the arguments that are not arrays.
  """
  return functools.partial(jax.jit, inline=True, static_argnames=static)


@_traced_once(*_STATIC)
def forward(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  ranges: DistanceRanges,
  scale: float,
  limits: BlockLimits = MEASURED,
) -> tuple[jax.Array, jax.Array]:
  """Attends to the keys at a set of distances.

  Args:
    query: [B, T, N, H], floating.
    key: [B, S, N, H], S = T.
    value: [B, S, N, H].
    ranges: the distances that a query sees.
    scale: factor on the scores.
    limits: the largest block sizes.

  Returns:
    The output [B, T, N, H] and the log-sum-exp of the scores [B, N, T], in
    float32 (float64 for float64 inputs). A query that sees no key has output 0
    and log-sum-exp -inf.
  """
  cut = plan(query.shape, ranges, limits)
  function = functools.partial(
    _forward,
    scale=scale,
    panels=Panels(query.shape[1], cut.rows, ranges, limits),
  )
  out, lse = by_step(function, (query, key, value), cut)
  return out, jnp.swapaxes(lse[..., 0], 1, 2)


@_traced_once(*_STATIC, "key_ranges", "value_ranges")
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
  limits: BlockLimits = MEASURED,
) -> tuple[jax.Array, tuple[jax.Array, ...], tuple[jax.Array, ...]]:
  """Computes only the requested gradients of attention.

  Args:
    query: [B, T, N, H].
    key: [B, S, N, H].
    value: [B, S, N, H].
    out: the final output [B, T, N, H]; it may cover more distances.
    lse: the log-sum-exp of all scores behind `out`, [B, N, T].
    grad: the cotangent of `out`, [B, T, N, H].
    ranges: the distances that the gradient of the queries sums over.
    scale: factor on the scores.
    key_ranges: one entry per requested gradient of the keys: the distances to
      sum over; subsets of `ranges`.
    value_ranges: the same for gradients of the values.
    limits: the largest block sizes.

  Returns:
    The gradient of the queries, those of the keys and those of the values, all
    [B, T, N, H] in float32 (float64 for float64).
  """
  cut = plan(query.shape, ranges, limits)
  function = functools.partial(
    _backward,
    scale=scale,
    panels=Panels(query.shape[1], cut.rows, ranges, limits),
    key_ranges=key_ranges,
    value_ranges=value_ranges,
  )
  lse = jnp.swapaxes(lse, 1, 2)[..., None]
  grad_query, *rest = by_step(
    function, (query, key, value, out, lse, grad), cut
  )
  return (
    grad_query,
    tuple(rest[: len(key_ranges)]),
    tuple(rest[len(key_ranges) :]),
  )


def _forward(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  panels: Panels,
  scale: float,
) -> tuple[jax.Array, jax.Array]:
  """`forward` on [b, n, T, H]; the log-sum-exp is [b, n, T, 1]."""
  query, key, value = panels.pad(query, key, value)
  query *= scale
  # The running maximum starts above the score of hidden keys. So a query that
  # sees no key gives them weight exp(lowest - peak) = 0.
  empty = (
    jnp.zeros_like(query),
    jnp.full_like(query[..., :1], 0.5 * lowest(query)),
    jnp.zeros_like(query[..., :1]),
  )

  def read(tile: Tile, carry):
    out, peak, total = carry
    scores_BxNxTxS = tile.scores(query, key)
    new_peak = jnp.maximum(peak, scores_BxNxTxS.max(-1, keepdims=True))
    att_BxNxTxS = jnp.exp(scores_BxNxTxS - new_peak)
    fade = jnp.exp(peak - new_peak)
    out = fade * out + jnp.einsum(
      "bnts,bnsh->bnth", att_BxNxTxS, tile.keys(value)
    )
    return out, new_peak, fade * total + att_BxNxTxS.sum(-1, keepdims=True)

  def step(panel: Tile, carry):
    first = tuple(varying(panel.queries(x), (query, key, value)) for x in empty)
    out, peak, total = panels.over(read, panel, first)
    out /= jnp.where(total == 0.0, 1.0, total)
    return panel.put(carry[0], out), panel.put(carry[1], peak + jnp.log(total))

  if span(panels.ranges) == 1:
    out, lse = banded.read_one(query, key, value, panels.ranges[0][0])
  else:
    blank = jnp.zeros_like(query), jnp.full_like(query[..., :1], -jnp.inf)
    blank = tuple(varying(x, (query, key, value)) for x in blank)
    out, lse = panels.sweep(step, blank)
  return out[:, :, : panels.length], lse[:, :, : panels.length]


def _backward(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  out: jax.Array,
  lse: jax.Array,
  grad: jax.Array,
  *,
  panels: Panels,
  scale: float,
  key_ranges: tuple[DistanceRanges, ...],
  value_ranges: tuple[DistanceRanges, ...],
) -> list[jax.Array]:
  """`backward` on [b, n, T, H]: gradients of query, then keys, then values."""
  query, key, value, out, lse, grad = panels.pad(
    query, key, value, out, lse, grad
  )
  query *= scale
  delta = jnp.sum(grad * out, axis=-1, keepdims=True)
  arrays = query, key, value, lse, delta, grad

  def sweep(
    ranges: DistanceRanges,
    query_wanted: bool,
    learning: Collection[DistanceRanges],
  ):
    return _sweep(
      *arrays,
      panels=dataclasses.replace(panels, ranges=ranges),
      query_wanted=query_wanted,
      key_ranges=[each for each in key_ranges if each in learning],
      value_ranges=[each for each in value_ranges if each in learning],
    )

  # Narrow ranges use the banded path. Wider ranges get a sweep of their own if
  # that is cheap. All others share the scores that the queries' gradient needs.
  every = dict.fromkeys((panels.ranges, *key_ranges, *value_ranges))
  narrow = {each for each in every if banded.pays_off(each, panels.length)}
  alone = {each for each in every if panels.pays_alone(each)}
  alone -= narrow | {panels.ranges}
  shared = every.keys() - narrow - alone
  grad_query, grad_keys, grad_values = sweep(
    panels.ranges, panels.ranges not in narrow, shared
  )
  for ranges in alone:
    _, keys, values = sweep(ranges, False, [ranges])
    grad_keys |= keys
    grad_values |= values
  for ranges in narrow:
    band_query, grad_keys[ranges], grad_values[ranges] = banded.backward(
      *arrays, ranges=ranges
    )
    if ranges == panels.ranges:
      grad_query = band_query
  grads = [
    grad_query * scale,
    *(grad_keys[ranges] for ranges in key_ranges),
    *(grad_values[ranges] for ranges in value_ranges),
  ]
  return [x[:, :, : panels.length] for x in grads]


def _sweep(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  lse: jax.Array,
  delta: jax.Array,
  grad: jax.Array,
  *,
  panels: Panels,
  query_wanted: bool,
  key_ranges: Sequence[DistanceRanges],
  value_ranges: Sequence[DistanceRanges],
) -> tuple[
  jax.Array, dict[DistanceRanges, jax.Array], dict[DistanceRanges, jax.Array]
]:
  """Computes gradients from scores; the query's lacks the factor `scale`."""

  def read(tile: Tile, carry):
    grad_query, grad_keys, grad_values = carry
    att_BxNxTxS = jnp.exp(tile.scores(query, key) - tile.queries(lse))
    grad_values = {
      ranges: tile.add(sums, grad, att_BxNxTxS, ranges)
      for ranges, sums in grad_values.items()
    }
    if not (query_wanted or grad_keys):
      return grad_query, grad_keys, grad_values
    grad_att_BxNxTxS = jnp.einsum(
      "bnth,bnsh->bnts", tile.queries(grad), tile.keys(value)
    )
    grad_scores_BxNxTxS = att_BxNxTxS * (grad_att_BxNxTxS - tile.queries(delta))
    grad_keys = {
      ranges: tile.add(sums, query, grad_scores_BxNxTxS, ranges)
      for ranges, sums in grad_keys.items()
    }
    if query_wanted:
      term = jnp.einsum("bnts,bnsh->bnth", grad_scores_BxNxTxS, tile.keys(key))
      grad_query = tile.put(grad_query, tile.queries(grad_query) + term)
    return grad_query, grad_keys, grad_values

  arrays = query, key, value, lse, delta, grad
  sums = varying(jnp.zeros_like(jnp.swapaxes(query, 2, 3)), arrays)
  carry = (
    varying(jnp.zeros_like(query), arrays),
    {ranges: sums for ranges in key_ranges},
    {ranges: sums for ranges in value_ranges},
  )
  if query_wanted or key_ranges or value_ranges:
    carry = panels.sweep(functools.partial(panels.over, read), carry)
  grad_query, *by_ranges = carry
  grad_keys, grad_values = (
    {ranges: jnp.swapaxes(x, 2, 3) for ranges, x in each.items()}
    for each in by_ranges
  )
  return grad_query, grad_keys, grad_values
