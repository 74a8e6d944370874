"""Blocked gradients without a second pass over the context.

Where own and context pairs have equal values, the variant's output is that of
ordinary attention over the context pair. The gradient is put right by
corrections whose value is zero and whose derivative moves the pairs of the
gradient window from the context to the own pair:

  out_i = o_i + sum_j p_ij (v'_j - v_j)
              + sum_j p_ij sg(v_j - o_i) scale sg(q_i) . (k'_j - k_j)

with o_i the ordinary output over the context pair (k, v), its attention
p_ij = exp(s_ij - lse_i), (k', v') the own pair, sg the stopped gradient, and j
over the gradient window. Starting from the context rather than from the own
pair keeps blocked gradients exactly 0: nothing has to cancel.

The corrections are exact for first derivatives; second derivatives need the
reference path.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

from jaxlook.attention import masks
from jaxlook.attention.reference import Pair, context_pair
from jaxlook.attention.spec import Spec

# Up to this many distances are corrected one shifted copy at a time, in
# O(N H) each; more are corrected under a mask, in O(N^2 H) together.
_MAX_SHIFTS = 8


def supports(spec: Spec) -> bool:
  """Whether the fused path is exact for a spec: own and context are equal."""
  return spec.source == "own" or not spec.blocks


def attend_fused(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  spec: Spec,
  context: Pair | None,
  scale: float,
) -> jax.Array:
  """Attends once and corrects the gradient; see the module's docstring.

  Args:
    query: [B, T, N, H].
    key: [B, S, N, H] with S = T.
    value: [B, S, N, H].
    spec: a spec that `supports` accepts.
    context: the caller's context pair, equal in value to `key` and `value`
      (W_K and W_V applied to the stopped input, say); None where not needed.
    scale: factor on the scores.

  Returns:
    [B, T, N, H] head outputs in the dtype of `value`; to the last bit the value
    of ordinary attention over the context pair.

  Raises:
    ValueError: the spec's context differs in value from the own pair.
  """
  if not supports(spec):
    raise ValueError(
      f"the fused path has no {spec.name!r}, whose context differs in value"
      " from the own keys and values; use implementation='reference'"
    )
  if spec.reach == 0 and not spec.blocks:
    # One visible key: its weight is 1 whatever the scores.
    return value
  length = query.shape[1]
  seen = masks.window(spec, length) & masks.visible(spec, length)
  offsets = np.flatnonzero(seen[-1, ::-1])
  if not spec.blocks or len(offsets) == length:
    out, _ = _plain(query, key, value, spec=spec, scale=scale)
    return out.astype(value.dtype)
  base = context_pair(spec, key, value, context)
  out, lse = _plain(query, *base, spec=spec, scale=scale)
  if len(offsets):
    # Blocking only keys or only values leaves the other of the two the very
    # same array in both pairs: nothing to correct there.
    delta_key = None if base[0] is key else key - base[0]
    delta_value = None if base[1] is value else value - base[1]
    correct = _by_shifts if len(offsets) <= _MAX_SHIFTS else _by_mask
    stopped = stop_gradient((query, *base, out, lse))
    out += correct(*stopped, delta_key, delta_value, offsets, scale)
  return out.astype(value.dtype)


def _plain(query, key, value, *, spec: Spec, scale: float):
  """Ordinary attention: outputs [B, T, N, H], log-sum-exps [B, N, T]."""
  precise = jnp.promote_types(jnp.float32, query.dtype)
  scores_BxNxTxS = scale * jnp.einsum(
    "btnh,bsnh->bnts", query, key, preferred_element_type=precise
  )
  scores_BxNxTxS = jnp.where(
    masks.visible(spec, query.shape[1]),
    scores_BxNxTxS,
    jnp.finfo(precise).min,
  )
  lse_BxNxT = jax.nn.logsumexp(stop_gradient(scores_BxNxTxS), axis=-1)
  att_BxNxTxS = jax.nn.softmax(scores_BxNxTxS)
  out = jnp.einsum(
    "bnts,bsnh->btnh", att_BxNxTxS, value, preferred_element_type=precise
  )
  return out, lse_BxNxT


def _by_shifts(
  query, key, value, out, lse, delta_key, delta_value, offsets, scale
):
  """The corrections, one distance at a time; zero-valued [B, T, N, H]."""
  length = query.shape[1]

  def shift(x: jax.Array, d: int) -> jax.Array:
    """Brings what stands at position i - d to position i; zeros before."""
    return jnp.pad(x[:, : length - d], ((0, 0), (d, 0), (0, 0), (0, 0)))

  total = jnp.zeros_like(out)
  for d in offsets:
    score_BxTxNx1 = scale * jnp.sum(
      query * shift(key, d), axis=-1, keepdims=True, dtype=out.dtype
    )
    att_BxTxNx1 = jnp.exp(score_BxTxNx1 - jnp.swapaxes(lse, 1, 2)[..., None])
    if delta_value is not None:
      total += att_BxTxNx1 * shift(delta_value, d)
    if delta_key is not None:
      change_BxTxNx1 = scale * jnp.sum(
        query * shift(delta_key, d), axis=-1, keepdims=True, dtype=out.dtype
      )
      total += att_BxTxNx1 * change_BxTxNx1 * (shift(value, d) - out)
  return total


def _by_mask(
  query, key, value, out, lse, delta_key, delta_value, offsets, scale
):
  """The corrections of many distances at once; zero-valued [B, T, N, H]."""
  chosen = np.isin(masks.distances(query.shape[1]), offsets)

  def scores(keys: jax.Array) -> jax.Array:
    return scale * jnp.einsum(
      "btnh,bsnh->bnts", query, keys, preferred_element_type=out.dtype
    )

  def read(weights_BxNxTxS: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.einsum(
      "bnts,bsnh->btnh",
      weights_BxNxTxS,
      values,
      preferred_element_type=out.dtype,
    )

  # Masked before the exponential, which would overflow at unseen pairs.
  att_BxNxTxS = jnp.exp(
    jnp.where(chosen, scores(key) - lse[..., None], -jnp.inf)
  )
  total = jnp.zeros_like(out)
  if delta_value is not None:
    total += read(att_BxNxTxS, delta_value)
  if delta_key is not None:
    change_BxNxTxS = att_BxNxTxS * scores(delta_key)
    moved_BxTxNx1 = jnp.swapaxes(change_BxNxTxS.sum(-1), 1, 2)[..., None]
    total += read(change_BxNxTxS, value) - moved_BxTxNx1 * out
  return total
