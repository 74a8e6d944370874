"""Attention whose backward pass skips all blocked gradients.

If own and context pairs have equal values, the output is that of ordinary
attention, and variants differ in the backward pass only. With p_ij the
attention, dO the cotangent of the output o and D_i = dO_i . o_i,

  dS_ij = p_ij (dO_i . v_j - D_i)
  dQ_i = scale sum_j dS_ij k_j
  dK_j = scale sum_i dS_ij q_i,   dV_j = sum_i p_ij dO_i

where for the own pair the sums over i run over the gradient window. For the
context pair they run over all other distances, if the context learns at all.
So `myopic` needs two matrix products forward and three backward (the scores
again, dO V^T and dQ); causal attention needs two and five.

If the values differ (a teacher's, or zeros), the softmax is computed in two
parts, inside and outside the window, and merged by their log-sum-exps.

First derivatives only; use the reference path for second derivatives.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxlook.attention import dispatch, masks
from jaxlook.attention.masks import DistanceRanges
from jaxlook.attention.reference import KeyValue, context_pair
from jaxlook.attention.spec import Spec

# Own and context pair; None for an array that is neither read nor learns.
Sources = tuple[tuple[Any, Any], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class _Route:
  """The distances at which each input is read and learns; all static.

  Attributes:
    shared: whether own and context have equal values.
    reads: the distances at which own and context are read; if `shared`, all
      visible distances and none.
    keys: the distances through which own and context keys learn.
    values: the same for values.
  """

  shared: bool
  reads: tuple[DistanceRanges, DistanceRanges]
  keys: tuple[DistanceRanges, DistanceRanges]
  values: tuple[DistanceRanges, DistanceRanges]


def _route(spec: Spec, length: int) -> _Route:
  """Returns the route of a spec for sequences of a length."""
  seen, own = masks.seen_ranges(spec, length), masks.window_ranges(spec, length)
  rest = masks.context_ranges(spec, length)
  shared = spec.source == "own" or not rest
  context_learns = spec.source != "zeros" and (
    spec.stop == "residual" or spec.leak > 0.0
  )

  def learns(blocked: bool) -> tuple[DistanceRanges, DistanceRanges]:
    if blocked:
      return own, rest if context_learns else ()
    # An array that is not blocked is the own one at every distance. It is
    # passed once if `shared`, else also as the context.
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
  context: KeyValue | None,
  scale: float,
) -> jax.Array:
  """Attends with a custom backward pass; see the module's docstring.

  Args:
    query: [B, T, N, H].
    key: [B, S, N, H] with S = T.
    value: [B, S, N, H].
    spec: the attention variant.
    context: the caller's context pair; None if not needed. If `spec.source` is
      `own`, its values must equal `key` and `value` (for example W_K and W_V
      applied to the stopped input); they are not read.
    scale: factor on the scores.

  Returns:
    [B, T, N, H] head outputs in the dtype of `value`; the same bits for every
    spec with `keeps_forward`.

  Raises:
    ValueError: it is differentiated twice.
  """
  if spec.reach == 0 and not spec.blocks:
    # The one visible key has weight 1.
    return value
  route = _route(spec, query.shape[1])
  others = context_pair(spec, key, value, context)
  # Leaving an unused array out means that it is never computed.
  used = tuple(
    other if learns[1] or not route.shared else None
    for other, learns in zip(others, (route.keys, route.values), strict=True)
  )
  return _attend(route, scale, query, ((key, value), used))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(
  route: _Route, scale: float, query: jax.Array, sources: Sources
) -> jax.Array:
  """Attends along a route; `sources` are the own and the context pair."""
  return _attend_forward(route, scale, query, sources)[0]


def _attend_forward(route, scale, query, sources):
  parts = [
    dispatch.forward(query, *_key_value(source), ranges=read, scale=scale)
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


def _key_value(source: tuple[Any, Any]) -> KeyValue:
  """Types a source that is read, so neither array is None."""
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
  """Returns the gradients of the query and of the sources."""
  grad_query = jnp.zeros((), lse.dtype)
  grad_sources = [
    [None if x is None else jnp.zeros_like(x) for x in source]
    for source in sources
  ]
  for part, read in enumerate(route.reads):
    if not read:
      continue
    # Shared arrays are read once and learn both as own and as context.
    roles = (0, 1) if route.shared else (part,)
    keys, values = (
      [role for role in roles if learns[role]]
      for learns in (route.keys, route.values)
    )
    part_query, *part_sources = dispatch.backward(
      query,
      *_key_value(sources[part]),
      out,
      lse,
      grad,
      ranges=read,
      scale=scale,
      key_ranges=tuple(route.keys[role] for role in keys),
      value_ranges=tuple(route.values[role] for role in values),
    )
    grad_query += part_query
    for which, learning in enumerate((keys, values)):
      for role, x in zip(learning, part_sources[which], strict=True):
        grad_sources[role][which] = x.astype(query.dtype)
  own, context = grad_sources
  grads = (own[0], own[1]), (context[0], context[1])
  return grad_query.astype(query.dtype), grads


_attend.defvjp(_attend_forward, _attend_backward)
