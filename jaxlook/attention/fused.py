"""Attention whose backward pass does only the work that a spec asks for.

Where own and context pairs have equal values, the output is that of ordinary
attention, and the variants differ in the backward pass alone. With p_ij the
attention, dO the cotangent of the output o and D_i = dO_i . o_i,

  dS_ij = p_ij (dO_i . v_j - D_i)
  dQ_i = scale sum_j dS_ij k_j
  dK_j = scale sum_i dS_ij q_i,   dV_j = sum_i p_ij dO_i

where the sums over i run through the gradient window for the own pair, and
through the rest for the context if that is to learn at all. So `myopic` needs
two matrix products forward and three backward (the scores again, dO V^T and
dQ), causal attention two and five.

Where the values differ (a teacher's, or zeros), the softmax is computed in two
parts, over the window and over the rest, that are merged by their log-sum-exps.

First derivatives only: the second need the reference path.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxlook.attention import dispatch, masks
from jaxlook.attention.masks import DistanceRanges
from jaxlook.attention.reference import Pair, context_pair
from jaxlook.attention.spec import Spec

# Own and context pair; None for what is neither read nor learns.
Sources = tuple[tuple[Any, Any], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class _Route:
  """What is read, and through which pairs each input learns; all static.

  Attributes:
    shared: whether own and context have equal values.
    reads: the pairs of the own and of the context part; if they are shared,
      all pairs and none.
    keys: the pairs through which own and context keys learn.
    values: the same for values.
  """

  shared: bool
  reads: tuple[DistanceRanges, DistanceRanges]
  keys: tuple[DistanceRanges, DistanceRanges]
  values: tuple[DistanceRanges, DistanceRanges]


def _route(spec: Spec, length: int) -> _Route:
  """The route of a spec at a length."""
  seen, own = masks.seen(spec, length), masks.inside(spec, length)
  rest = masks.outside(spec, length)
  shared = spec.source == "own" or not rest
  learnt = spec.source != "zeros" and (
    spec.stop == "residual" or spec.leak > 0.0
  )

  def learns(blocked: bool) -> tuple[DistanceRanges, DistanceRanges]:
    if blocked:
      return own, rest if learnt else ()
    # What is not blocked is the own array at every pair: passed once if shared,
    # and as the context too if not.
    return (seen, ()) if shared else (own, rest)

  return _Route(
    shared=shared,
    reads=(seen, ()) if shared else (own, rest),
    keys=learns(spec.blocked != "values"),
    values=learns(spec.blocked != "keys"),
  )


def attend_fused(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  spec: Spec,
  context: Pair | None,
  scale: float,
) -> jax.Array:
  """Attends, with a backward pass of its own; see the module's docstring.

  Args:
    query: [B, T, N, H].
    key: [B, S, N, H] with S = T.
    value: [B, S, N, H].
    spec: the attention variant.
    context: the caller's context pair; None where not needed. If its source
      is the `own` one it is equal in value to `key` and `value` (W_K and W_V
      applied to the stopped input, say): its values are not looked at.
    scale: factor on the scores.

  Returns:
    [B, T, N, H] head outputs in the dtype of `value`; the same bits for every
    spec that `keeps_forward`.

  Raises:
    ValueError: it is differentiated twice.
  """
  if spec.reach == 0 and not spec.blocks:
    # One visible key: its weight is 1 whatever the scores.
    return value
  route = _route(spec, query.shape[1])
  others = context_pair(spec, key, value, context)
  # An array that is neither read nor learns is not computed at all.
  given = tuple(
    other if learns[1] or not route.shared else None
    for other, learns in zip(others, (route.keys, route.values), strict=True)
  )
  return _attend(route, scale, query, ((key, value), given))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(
  route: _Route, scale: float, query: jax.Array, sources: Sources
) -> jax.Array:
  """Attends under a route; the sources are the own and the context pair."""
  return _attend_forward(route, scale, query, sources)[0]


def _attend_forward(route, scale, query, sources):
  parts = [
    dispatch.forward(query, *_whole(source), pairs=read, scale=scale)
    for source, read in zip(sources, route.reads, strict=True)
    if read
  ]
  out, lse = parts[0]
  if len(parts) == 2:
    lse = jnp.logaddexp(parts[0][1], parts[1][1])
    out = sum(
      jnp.swapaxes(jnp.exp(part_lse - lse), 1, 2)[..., None] * part
      for part, part_lse in parts
    )
  out = jnp.asarray(out, query.dtype)
  return out, (query, sources, out, lse)


def _attend_backward(route, scale, saved, grad):
  query, sources, out, lse = saved
  return _gradients(route, scale, query, sources, out, lse, grad)


def _whole(source: tuple[Any, Any]) -> Pair:
  """A pair that is read, and hence there."""
  key, value = source
  return key, value


def _gradients(
  route: _Route,
  scale: float,
  query: jax.Array,
  sources: Sources,
  out: jax.Array,
  lse: jax.Array,
  grad: jax.Array,
) -> tuple[jax.Array, Sources]:
  """The gradients to the query and to the sources."""
  to_query = jnp.zeros((), lse.dtype)
  to_sources = [
    [None if x is None else jnp.zeros_like(x) for x in source]
    for source in sources
  ]
  for part, read in enumerate(route.reads):
    if not read:
      continue
    # What own and context share is read once, and learns in both roles.
    roles = (0, 1) if route.shared else (part,)
    keys, values = (
      [role for role in roles if learns[role]]
      for learns in (route.keys, route.values)
    )
    more, *found = dispatch.backward(
      query,
      *_whole(sources[part]),
      out,
      lse,
      grad,
      pairs=read,
      scale=scale,
      key_pairs=tuple(route.keys[role] for role in keys),
      value_pairs=tuple(route.values[role] for role in values),
    )
    to_query += more
    for which, learning in enumerate((keys, values)):
      for role, x in zip(learning, found[which], strict=True):
        to_sources[role][which] = x.astype(query.dtype)
  own, context = to_sources
  grads = (own[0], own[1]), (context[0], context[1])
  return to_query.astype(query.dtype), grads


_attend.defvjp(_attend_forward, _attend_backward)
