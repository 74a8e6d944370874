"""The one public attention function."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.attention import fused
from jaxlook.attention.masks import Barrier
from jaxlook.attention.reference import (
  Pair,
  attend_reference,
  pattern_reference,
  read_reference,
)
from jaxlook.attention.spec import Spec, parse

Implementation = Literal["auto", "reference", "fused"]


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  spec: Spec | str | Sequence[Spec],
  context: Pair | None = None,
  scale: float | None = None,
  implementation: Implementation = "auto",
  edit_pattern: Callable[[jax.Array], jax.Array] | None = None,
  barrier: Barrier | None = None,
) -> jax.Array:
  """Causal attention under a variant that decides which gradients flow.

  out_i = softmax over visible j of q_i . k_ij * scale, applied to v_ij, where
  (k_ij, v_ij) is the own pair (k_j, v_j) if low <= i - j <= high (the gradient
  window) and the context pair elsewhere.

  Args:
    query: [batch, length, heads, head_dim], floating; keys and values are of
      the same shape and dtype (the layout of `jax.nn.dot_product_attention`).
    key: own keys.
    value: own values.
    spec: the variant: a `Spec`, its flag form, or one `Spec` per head.
    context: context keys and values, of the shape of `key`, for specs that
      `needs_context`: W_K and W_V applied to the stopped input for stop point
      `residual`; another model's for `teacher`. Under stop point `kv` gradient
      to them is stopped here. For all but `teacher` they must be equal in value
      to `key` and `value`: the fused path reads those at every pair.
    scale: factor on the scores, a Python number; 1 / sqrt(head_dim) by default.
    implementation: "reference" (the definition, differentiable any number of
      times), "fused" (memory linear in the length, a backward pass that does
      only what the spec asks for, first derivatives only) or "auto" ("fused").
    edit_pattern: gives the attention pattern to go on with, from the one of all
      heads [batch, heads, length, length]; needs the reference path.
    barrier: (first_query, first_key): queries from the one on see no key before
      the other; first_key <= first_query. None for none.

  Returns:
    [batch, length, heads, head_dim] head outputs, dtype of `value`. Scores and
    softmax are computed in float32, or in float64 for float64 inputs. There is
    no padding mask: padded at the end, sequences are causally safe from their
    padding, whose own outputs are finite and whose loss is the caller's to
    leave out. In plain JAX float32 products follow
    `jax_default_matmul_precision`, as all the model's do. Arrays that are
    sharded over several accelerators need `jax.shard_map` around the call:
    compilers cannot split kernels.

  Raises:
    ValueError: the shapes or dtypes disagree, an array is empty, the spec is
      unknown or given for another number of heads, context is missing or given
      in vain, the implementation is unknown, the barrier hides a query's own
      key, or the fused path is differentiated twice.

  Source: Wu, Morris and Levine (2024), arXiv 2404.00859, sections 2 and 3, for
  `myopic`; the published code stops at `residual`.
  """
  specs = _per_head(spec)
  _check(query, key, value, specs, context, implementation)
  if barrier is not None and not 0 <= barrier[1] <= barrier[0]:
    raise ValueError(
      f"a barrier must be (first query, first key at or before it), not"
      f" {barrier}"
    )
  if edit_pattern is not None and implementation != "reference":
    raise ValueError(
      f"edit_pattern needs implementation='reference', not {implementation!r}"
    )
  scale = float(1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)

  arrays = query, key, value, context
  if edit_pattern is not None:
    pattern = edit_pattern(
      _by_spec(
        specs,
        lambda spec, query, key, value, context: pattern_reference(
          *(query, key, value),
          spec=spec,
          context=context,
          scale=scale,
          barrier=barrier,
        ),
        arrays,
        axis=1,
      )
    )
    return _by_spec(
      specs,
      lambda spec, _, key, value, context, pattern: read_reference(
        jnp.swapaxes(pattern, 1, 2), key, value, spec=spec, context=context
      ),
      (*arrays, jnp.swapaxes(pattern, 1, 2)),
    )

  def by_definition(spec: Spec, query, key, value, context):
    return attend_reference(
      *(query, key, value),
      spec=spec,
      context=context,
      scale=scale,
      barrier=barrier,
    )

  def fast(spec: Spec, query, key, value, context):
    return fused.attend_fused(
      query, key, value, spec=spec, context=context, scale=scale
    )

  if implementation == "reference":
    return _by_spec(specs, by_definition, arrays)
  if barrier is None or barrier[0] >= query.shape[1] or not barrier[1]:
    return _by_spec(specs, fast, arrays)
  # Specs know distances only, and those a slice keeps: what comes before the
  # barrier is one call, what comes after it another from its first key on.
  first_query, first_key = barrier
  before = _by_spec(specs, fast, _cut(arrays, slice(0, first_query)))
  after = _by_spec(specs, fast, _cut(arrays, slice(first_key, None)))
  return jnp.concatenate([before, after[:, first_query - first_key :]], axis=1)


def _cut(arrays: tuple[Any, ...], positions: slice) -> tuple[Any, ...]:
  return jax.tree.map(lambda x: x[:, positions], arrays)


def _by_spec(
  specs: tuple[Spec, ...],
  function: Callable[..., jax.Array],
  arrays: tuple[Any, ...],
  axis: int = 2,
) -> jax.Array:
  """Applies a function to the heads of each distinct spec, in one go.

  Args:
    specs: one for all heads, or one a head.
    function: of a spec and the arrays, restricted to the spec's heads.
    arrays: query, key, value, context and more, heads on axis 2.
    axis: the axis of heads in what the function returns.

  Returns:
    What the function returns, with all heads in order.
  """

  def one(spec: Spec, query, key, value, context, *rest):
    given = context if spec.needs_context else None
    return function(spec, query, key, value, given, *rest)

  distinct = list(dict.fromkeys(specs))
  if len(distinct) == 1:
    return one(distinct[0], *arrays)
  groups = [np.flatnonzero([s == spec for s in specs]) for spec in distinct]
  outs = [
    one(spec, *jax.tree.map(lambda x, h=heads: x[:, :, h], arrays))
    for spec, heads in zip(distinct, groups, strict=True)
  ]
  back = np.argsort(np.concatenate(groups))
  return jnp.take(jnp.concatenate(outs, axis=axis), back, axis=axis)


def _per_head(spec: Spec | str | Sequence[Spec]) -> tuple[Spec, ...]:
  if isinstance(spec, str):
    return (parse(spec),)
  return (spec,) if isinstance(spec, Spec) else tuple(spec)


def _check(query, key, value, specs, context, implementation) -> None:
  """Refuses what `attend` cannot mean, in one line."""
  names = ", ".join(dict.fromkeys(spec.name for spec in specs))
  if query.ndim != 4:
    raise ValueError(
      f"query must be [batch, length, heads, head_dim], not {query.shape}"
    )
  if not query.size:
    raise ValueError(f"query must not be empty, not {list(query.shape)}")
  arrays = {"key": key, "value": value}
  if any(spec.needs_context for spec in specs):
    if context is None:
      raise ValueError(f"attention {names!r} needs context keys and values")
    arrays |= {"context key": context[0], "context value": context[1]}
  elif context is not None:
    raise ValueError(f"attention {names!r} reads no context, but it was given")
  for name, array in arrays.items():
    if array.shape != query.shape or array.dtype != query.dtype:
      raise ValueError(
        f"{name} must be {query.dtype}{list(query.shape)} like the query, not"
        f" {array.dtype}{list(array.shape)}"
      )
  if not jnp.issubdtype(query.dtype, jnp.floating):
    raise ValueError(f"query must be floating, not {query.dtype}")
  if len(specs) not in (1, query.shape[2]):
    raise ValueError(
      f"{len(specs)} specs for {query.shape[2]} heads; give one, or one a head"
    )
  if implementation not in ("auto", "reference", "fused"):
    raise ValueError(
      f"unknown implementation {implementation!r}; known are auto, reference,"
      " fused"
    )
