"""Attention in plain JAX, a few tiles of scores at a time.

Forward, each panel of queries keeps a running softmax over the tiles of its
keys; backward, tiles are formed anew. No more than a few exist at once, so that
memory is linear in the length. A short sequence is a single tile: its whole
score matrix.
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
  Limits,
  by_step,
  plan,
  varying,
)
from jaxlook.attention.blocks import Panels, Tile, lowest
from jaxlook.attention.masks import DistanceRanges, width

_STATIC = ("pairs", "scale", "limits")


def _traced_once(*static: str) -> Callable[..., Any]:
  """Traces once for all layers and interventions of a shape, and inlines that.

  Args:
    *static: the arguments that are no arrays.
  """
  return functools.partial(jax.jit, inline=True, static_argnames=static)


@_traced_once(*_STATIC)
def forward(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  pairs: DistanceRanges,
  scale: float,
  limits: Limits = MEASURED,
) -> tuple[jax.Array, jax.Array]:
  """Attends over a set of pairs.

  Args:
    query: [B, T, N, H], floating.
    key: [B, S, N, H], S = T.
    value: [B, S, N, H].
    pairs: the pairs that a query sees.
    scale: factor on the scores.
    limits: what pays on the machine.

  Returns:
    The output [B, T, N, H] and the log-sum-exp of the scores [B, N, T], in
    float32 (float64 for float64 inputs). A query without any pair has output 0
    and log-sum-exp -inf.
  """
  cut = plan(query.shape, pairs, limits)
  function = functools.partial(
    _forward,
    scale=scale,
    panels=Panels(query.shape[1], cut.rows, pairs, limits),
  )
  out, lse = by_step(function, (query, key, value), cut)
  return out, jnp.swapaxes(lse[..., 0], 1, 2)


@_traced_once(*_STATIC, "key_pairs", "value_pairs")
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
  limits: Limits = MEASURED,
) -> tuple[jax.Array, tuple[jax.Array, ...], tuple[jax.Array, ...]]:
  """The gradients of attention over a set of pairs, and only those wanted.

  Args:
    query: [B, T, N, H].
    key: [B, S, N, H].
    value: [B, S, N, H].
    out: the final output, which may be of more pairs than these; [B, T, N, H].
    lse: the log-sum-exp of all scores behind `out`, [B, N, T].
    grad: the cotangent of `out`, [B, T, N, H].
    pairs: the pairs that are summed over in the gradient to the queries.
    scale: factor on the scores.
    key_pairs: for each gradient to keys that is wanted, the pairs to sum over;
      subsets of `pairs`.
    value_pairs: the same for gradients to values.
    limits: what pays on the machine.

  Returns:
    The gradient to the queries, those to the keys and those to the values, all
    [B, T, N, H] in float32 (float64 for float64).
  """
  cut = plan(query.shape, pairs, limits)
  function = functools.partial(
    _backward,
    scale=scale,
    panels=Panels(query.shape[1], cut.rows, pairs, limits),
    key_pairs=key_pairs,
    value_pairs=value_pairs,
  )
  lse = jnp.swapaxes(lse, 1, 2)[..., None]
  to_query, *rest = by_step(function, (query, key, value, out, lse, grad), cut)
  return to_query, tuple(rest[: len(key_pairs)]), tuple(rest[len(key_pairs) :])


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
  # Queries without a pair hold the lowest score alone: above it, a floor.
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

  if width(panels.pairs) == 1:
    out, lse = banded.read_one(query, key, value, panels.pairs[0][0])
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
  key_pairs: tuple[DistanceRanges, ...],
  value_pairs: tuple[DistanceRanges, ...],
) -> list[jax.Array]:
  """`backward` on [b, n, T, H]: the query first, then keys, values."""
  query, key, value, out, lse, grad = panels.pad(
    query, key, value, out, lse, grad
  )
  query *= scale
  delta = jnp.sum(grad * out, axis=-1, keepdims=True)
  arrays = query, key, value, lse, delta, grad

  def swept(
    pairs: DistanceRanges, query_wanted: bool, some: Collection[DistanceRanges]
  ):
    return _sweep(
      *arrays,
      panels=dataclasses.replace(panels, pairs=pairs),
      query_wanted=query_wanted,
      key_pairs=[each for each in key_pairs if each in some],
      value_pairs=[each for each in value_pairs if each in some],
    )

  # Narrow sets by the band; wider ones by scores of their own, if few enough;
  # the rest share the scores that the queries' gradient needs.
  every = dict.fromkeys((panels.pairs, *key_pairs, *value_pairs))
  narrow = {each for each in every if banded.suits(each, panels.length)}
  alone = {each for each in every if panels.pays_alone(each)}
  alone -= narrow | {panels.pairs}
  shared = every.keys() - narrow - alone
  to_query, to_keys, to_values = swept(
    panels.pairs, panels.pairs not in narrow, shared
  )
  for some in alone:
    _, keys, values = swept(some, False, [some])
    to_keys |= keys
    to_values |= values
  for some in narrow:
    to_query_here, to_keys[some], to_values[some] = banded.backward(
      *arrays, pairs=some
    )
    if some == panels.pairs:
      to_query = to_query_here
  grads = [
    to_query * scale,
    *(to_keys[pairs] for pairs in key_pairs),
    *(to_values[pairs] for pairs in value_pairs),
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
  key_pairs: Sequence[DistanceRanges],
  value_pairs: Sequence[DistanceRanges],
) -> tuple[
  jax.Array, dict[DistanceRanges, jax.Array], dict[DistanceRanges, jax.Array]
]:
  """The gradients that need scores: query's (unscaled), and by set of pairs."""

  def read(tile: Tile, carry):
    to_query, to_keys, to_values = carry
    att_BxNxTxS = jnp.exp(tile.scores(query, key) - tile.queries(lse))
    to_values = {
      pairs: tile.add(sums, grad, att_BxNxTxS, pairs)
      for pairs, sums in to_values.items()
    }
    if not (query_wanted or to_keys):
      return to_query, to_keys, to_values
    moved_BxNxTxS = jnp.einsum(
      "bnth,bnsh->bnts", tile.queries(grad), tile.keys(value)
    )
    change_BxNxTxS = att_BxNxTxS * (moved_BxNxTxS - tile.queries(delta))
    to_keys = {
      pairs: tile.add(sums, query, change_BxNxTxS, pairs)
      for pairs, sums in to_keys.items()
    }
    if query_wanted:
      more = jnp.einsum("bnts,bnsh->bnth", change_BxNxTxS, tile.keys(key))
      to_query = tile.put(to_query, tile.queries(to_query) + more)
    return to_query, to_keys, to_values

  arrays = query, key, value, lse, delta, grad
  sums = varying(jnp.zeros_like(jnp.swapaxes(query, 2, 3)), arrays)
  carry = (
    varying(jnp.zeros_like(query), arrays),
    {pairs: sums for pairs in key_pairs},
    {pairs: sums for pairs in value_pairs},
  )
  if query_wanted or key_pairs or value_pairs:
    carry = panels.sweep(functools.partial(panels.over, read), carry)
  to_query, *found = carry
  to_keys, to_values = (
    {pairs: jnp.swapaxes(x, 2, 3) for pairs, x in each.items()}
    for each in found
  )
  return to_query, to_keys, to_values
