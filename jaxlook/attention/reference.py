"""The definition of attention over own and context keys and values.

It is written to be easy to check: two score matrices, no shortcut. Tests
compare every other path with it. It is differentiable any number of times.
"""

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from jaxlook.attention import masks
from jaxlook.attention.spec import Spec

KeyValue = tuple[jax.Array, jax.Array]
"""Keys and values of one source (own or context)."""


def context_pair(
  spec: Spec, key: jax.Array, value: jax.Array, given: KeyValue | None
) -> KeyValue:
  """Returns the context keys and values that a spec reads outside its window.

  Args:
    spec: the attention variant.
    key: own keys, [B, S, N, H].
    value: own values, [B, S, N, H].
    given: the caller's context pair; None unless `spec.needs_context`.

  Returns:
    The context keys and values. Keys are the own ones if the spec blocks only
    values, and the reverse. The share `spec.leak` of the gradient passes to
    the own arrays.
  """

  def context(own: jax.Array, other: jax.Array | None) -> jax.Array:
    if spec.source == "zeros":
      return jnp.zeros_like(own)
    base = own if other is None else other
    if spec.stop == "kv":
      base = stop_gradient(base)
    if spec.leak == 0.0:
      return base
    # This is (1 - leak) base + leak own, arranged so that equal values stay
    # equal to the last bit: the leak must not change the output.
    return base + spec.leak * (own - base)

  given_key, given_value = given or (None, None)
  context_key = key if spec.blocked == "values" else context(key, given_key)
  context_value = (
    value if spec.blocked == "keys" else context(value, given_value)
  )
  return context_key, context_value


def pattern_reference(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  spec: Spec,
  context: KeyValue | None,
  scale: float,
  barrier: masks.Barrier | None = None,
) -> jax.Array:
  """Computes the attention pattern: the softmax over visible keys.

  Args:
    query: [B, T, N, H].
    key: [B, S, N, H] with S = T.
    value: [B, S, N, H].
    spec: the attention variant.
    context: the caller's context pair; None unless `spec.needs_context`.
    scale: factor on the scores.
    barrier: see `attend`.

  Returns:
    [B, N, T, S], float32, or float64 for float64 inputs.
  """
  length = query.shape[1]
  context_key, _ = context_pair(spec, key, value, context)
  precise = jnp.promote_types(jnp.float32, query.dtype)

  def scores(keys: jax.Array) -> jax.Array:
    return scale * jnp.einsum(
      "btnh,bsnh->bnts", query, keys, preferred_element_type=precise
    )

  scores_BxNxTxS = jnp.where(
    masks.window(spec, length), scores(key), scores(context_key)
  )
  lowest = jnp.finfo(precise).min
  visible_TxS = masks.visible(spec, length, barrier)
  return jax.nn.softmax(jnp.where(visible_TxS, scores_BxNxTxS, lowest))


def read_reference(
  pattern: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  spec: Spec,
  context: KeyValue | None,
) -> jax.Array:
  """Applies a pattern to own values in the window, to context values elsewhere.

  Args:
    pattern: [B, N, T, S].
    key: [B, S, N, H].
    value: [B, S, N, H].
    spec: the attention variant.
    context: the caller's context pair; None unless `spec.needs_context`.

  Returns:
    [B, T, N, H] head outputs in the dtype of `value`.
  """
  window_TxS = masks.window(spec, value.shape[1])
  _, context_value = context_pair(spec, key, value, context)

  def read(att_BxNxTxS: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.einsum(
      "bnts,bsnh->btnh",
      att_BxNxTxS,
      values,
      preferred_element_type=pattern.dtype,
    )

  out = read(jnp.where(window_TxS, pattern, 0.0), value)
  out += read(jnp.where(window_TxS, 0.0, pattern), context_value)
  return out.astype(value.dtype)


def attend_reference(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  spec: Spec,
  context: KeyValue | None,
  scale: float,
  barrier: masks.Barrier | None = None,
) -> jax.Array:
  """Attends by the definition: `pattern_reference`, then `read_reference`.

  Args:
    query: [B, T, N, H].
    key: [B, S, N, H] with S = T.
    value: [B, S, N, H].
    spec: the attention variant.
    context: the caller's context pair; None unless `spec.needs_context`.
    scale: factor on the scores.
    barrier: see `attend`.

  Returns:
    [B, T, N, H] head outputs in the dtype of `value`. Scores and softmax are
    float32, or float64 for float64 inputs.
  """
  pattern_BxNxTxS = pattern_reference(
    query,
    key,
    value,
    spec=spec,
    context=context,
    scale=scale,
    barrier=barrier,
  )
  return read_reference(pattern_BxNxTxS, key, value, spec=spec, context=context)
