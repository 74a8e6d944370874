"""The one public attention function."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.attention import fused
from jaxlook.attention.masks import Barrier
from jaxlook.attention.reference import (
  KeyValue,
  attend_reference,
  pattern_reference,
  read_reference,
)
from jaxlook.attention.spec import Spec, parse
from jaxlook.numerals import counted

Implementation = Literal["auto", "reference", "fused"]
Arrays = tuple[Any, ...]


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  spec: Spec | str | Sequence[Spec],
  context: KeyValue | None = None,
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
    query: [batch, length, heads, head_dim], floating. Keys and values have the
      same shape and dtype (the layout of `jax.nn.dot_product_attention`).
    key: own keys.
    value: own values.
    spec: the variant: a `Spec`, its flag form, or one `Spec` per head.
    context: context keys and values, shaped like `key`, for specs with
      `needs_context`. Stop point `residual`: W_K and W_V applied to the stopped
      input. `teacher`: another model's keys and values. Under stop point `kv`
      this function stops their gradient. For every spec but `teacher` their
      values must equal `key` and `value`, because the fused path reads `key`
      and `value` at every pair.
    scale: factor on the scores, a Python number; 1 / sqrt(head_dim) by default.
    implementation: "reference" (the definition, differentiable any number of
      times), "fused" (memory linear in the length; the backward pass computes
      only the gradients that the spec lets through; first derivatives only) or
      "auto" ("fused").
    edit_pattern: maps the attention pattern of all heads, [batch, heads,
      length, length], to the pattern to use; needs "reference".
    barrier: (first_query, first_key): queries at first_query and later do not
      see keys before first_key; first_key <= first_query. None for no barrier.

  Returns:
    [batch, length, heads, head_dim] head outputs, dtype of `value`. Scores and
    softmax are float32, or float64 for float64 inputs. There is no padding
    mask: pad at the end, where causal masking hides the padding from all other
    positions, and leave padded positions out of the loss. Their outputs are
    finite. In plain JAX, float32 products follow
    `jax_default_matmul_precision`. Wrap the call in `jax.shard_map` when arrays
    are sharded over several accelerators: compilers cannot split kernels.

  Raises:
    ValueError: shapes or dtypes disagree, an array is empty, the spec is
      unknown, the number of specs is not the number of heads, context is
      missing or not needed, the implementation is unknown, the barrier hides a
      query's own key, or the fused path is differentiated twice.

  Source: Wu, Morris and Levine (2024), arXiv 2404.00859, sections 2 and 3, for
  `myopic`; the published code stops at `residual`.
  """
  specs = _per_head(spec)
  _check(query, key, value, specs, context, implementation)
  if barrier is not None and not 0 <= barrier[1] <= barrier[0]:
    raise ValueError(
      f"barrier {barrier} must be (first_query, first_key) with"
      " 0 <= first_key <= first_query"
    )
  if edit_pattern is not None and implementation != "reference":
    raise ValueError(
      f"edit_pattern needs implementation='reference', not {implementation!r}"
    )
  scale = float(1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)
  arrays = query, key, value, context
  if edit_pattern is not None:
    return _attend_edited(specs, arrays, scale, barrier, edit_pattern)
  if implementation == "reference":
    by_definition = functools.partial(
      attend_reference, scale=scale, barrier=barrier
    )
    return _by_spec(specs, by_definition, arrays)
  return _attend_fused(specs, arrays, scale, barrier)


def _attend_edited(
  specs: tuple[Spec, ...],
  arrays: Arrays,
  scale: float,
  barrier: Barrier | None,
  edit_pattern: Callable[[jax.Array], jax.Array],
) -> jax.Array:
  """Attends with an edited pattern; see `attend`."""
  to_pattern = functools.partial(
    pattern_reference, scale=scale, barrier=barrier
  )
  pattern_BxNxTxS = edit_pattern(_by_spec(specs, to_pattern, arrays, axis=1))

  def read(query, key, value, pattern_BxTxNxS, *, spec, context):
    del query
    return read_reference(
      jnp.swapaxes(pattern_BxTxNxS, 1, 2),
      key,
      value,
      spec=spec,
      context=context,
    )

  return _by_spec(specs, read, (*arrays, jnp.swapaxes(pattern_BxNxTxS, 1, 2)))


def _attend_fused(
  specs: tuple[Spec, ...],
  arrays: Arrays,
  scale: float,
  barrier: Barrier | None,
) -> jax.Array:
  """Attends by the fused path, in two calls if there is a barrier."""
  fast = functools.partial(fused.attend_fused, scale=scale)
  length = arrays[0].shape[1]
  if barrier is None or barrier[0] >= length or not barrier[1]:
    return _by_spec(specs, fast, arrays)
  # Specs depend on distances only, and slicing keeps distances. So queries
  # before the barrier are one call; the others are a second call on a slice
  # that begins at the first key they see.
  first_query, first_key = barrier
  before = _by_spec(specs, fast, _sliced(arrays, slice(0, first_query)))
  after = _by_spec(specs, fast, _sliced(arrays, slice(first_key, None)))
  return jnp.concatenate([before, after[:, first_query - first_key :]], axis=1)


def _sliced(arrays: Arrays, positions: slice) -> Arrays:
  return jax.tree.map(lambda x: x[:, positions], arrays)


def _by_spec(
  specs: tuple[Spec, ...],
  function: Callable[..., jax.Array],
  arrays: Arrays,
  axis: int = 2,
) -> jax.Array:
  """Applies a function once per distinct spec, to the heads with that spec.

  Args:
    specs: one for all heads, or one per head.
    function: maps arrays of some heads, with keywords `spec` and `context`, to
      an array with those heads on `axis`.
    arrays: query, key, value, context and others, heads on axis 2.
    axis: the axis of heads in the function's result.

  Returns:
    The function's results for all heads, in order.
  """

  def one(spec: Spec, query, key, value, context, *rest):
    context = context if spec.needs_context else None
    return function(query, key, value, *rest, spec=spec, context=context)

  distinct = list(dict.fromkeys(specs))
  if len(distinct) == 1:
    return one(distinct[0], *arrays)
  groups = [np.flatnonzero([s == spec for s in specs]) for spec in distinct]
  outs = [
    one(spec, *jax.tree.map(lambda x, h=heads: x[:, :, h], arrays))
    for spec, heads in zip(distinct, groups, strict=True)
  ]
  in_order = np.argsort(np.concatenate(groups))
  return jnp.take(jnp.concatenate(outs, axis=axis), in_order, axis=axis)


def _per_head(spec: Spec | str | Sequence[Spec]) -> tuple[Spec, ...]:
  if isinstance(spec, str):
    return (parse(spec),)
  return (spec,) if isinstance(spec, Spec) else tuple(spec)


def _check(query, key, value, specs, context, implementation) -> None:
  """Raises ValueError for arguments that `attend` cannot use."""
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
      raise ValueError(
        f"attention {names!r} needs context keys and values; context is None"
      )
    arrays |= {"context key": context[0], "context value": context[1]}
  elif context is not None:
    raise ValueError(f"attention {names!r} reads no context; omit context")
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
      f"spec has {len(specs)} entries for {counted(query.shape[2], 'head')};"
      " give one, or one per head"
    )
  if implementation not in ("auto", "reference", "fused"):
    raise ValueError(
      f"implementation {implementation!r} is unknown; use auto, reference or"
      " fused"
    )
