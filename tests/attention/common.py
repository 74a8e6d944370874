"""Random inputs for attention and its values and gradients, in one call."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

import jaxlook
from jaxlook.attention import Spec


def inputs(seed: int, shape: Sequence[int]) -> dict[str, jax.Array]:
  """Own and other keys and values, queries and output weights, [B, T, N, H]."""
  names = ("query", "key", "value", "other_key", "other_value", "weight")
  keys = jax.random.split(jax.random.key(seed), len(names))
  return {
    name: jax.random.normal(key, tuple(shape))
    for name, key in zip(names, keys, strict=True)
  }


def value_and_grads(
  spec: str | Spec, arrays: dict[str, jax.Array], implementation: str
):
  """The output, and the gradient of its weighted sum to every input.

  The context of a spec that keeps the forward pass is equal in value to the
  own pair but a separate argument, so that its gradient is seen apart.
  """
  if isinstance(spec, str):
    spec = jaxlook.parse(spec)
  return _compiled(spec, implementation)(arrays)


@functools.cache
def _compiled(spec: Spec, implementation: str):
  return jax.jit(
    functools.partial(compute, spec, implementation=implementation)
  )


def compute(
  spec: Spec,
  arrays: dict[str, jax.Array],
  implementation: str,
  barrier: tuple[int, int] | None = None,
):
  """What `value_and_grads` compiles."""
  given = dict(arrays)
  if spec.keeps_forward:
    given |= {"other_key": given["key"], "other_value": given["value"]}

  def weighted(given):
    context = (given["other_key"], given["other_value"])
    out = jaxlook.attend(
      given["query"],
      given["key"],
      given["value"],
      spec=spec,
      context=context if spec.needs_context else None,
      implementation=implementation,
      barrier=barrier,
    )
    return jnp.sum(out * given["weight"]), out

  (_, out), grads = jax.value_and_grad(weighted, has_aux=True)(given)
  return out, {name: grads[name] for name in grads if name != "weight"}


def by_loop(spec, arrays, scale):
  """out_i over own and context pairs, one query at a time, in NumPy."""
  spec = jaxlook.parse(spec)
  query, key, value, other_key, other_value = (
    np.asarray(arrays[name])
    for name in ("query", "key", "value", "other_key", "other_value")
  )
  if spec.source == "zeros":
    other_key, other_value = np.zeros_like(key), np.zeros_like(value)
  out = np.zeros_like(value)
  for b, i, n in np.ndindex(*query.shape[:3]):
    keys, values = [], []
    for j in range(i + 1):
      if spec.reach is not None and i - j > spec.reach:
        continue
      own = spec.low <= i - j <= (np.inf if spec.high is None else spec.high)
      own_key = own or spec.blocked == "values"
      own_value = own or spec.blocked == "keys"
      keys.append(key[b, j, n] if own_key else other_key[b, j, n])
      values.append(value[b, j, n] if own_value else other_value[b, j, n])
    weight = np.exp(scale * np.asarray(keys) @ query[b, i, n])
    out[b, i, n] = weight @ np.asarray(values) / weight.sum()
  return out
