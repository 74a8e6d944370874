"""The attention of a block: `jaxlook.attend` with its projections."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from jaxlook.attention import Spec, attend
from jaxlook.attention.attend import Implementation
from jaxlook.attention.masks import Barrier
from jaxlook.attention.reference import KeyValue
from jaxlook.models.config import DecoderConfig
from jaxlook.models.sites import NO_EDITS, Edits, tap

LayerSpec = tuple[Spec, ...]


class Context(NamedTuple):
  """One layer of a teacher, for students that read it as their context.

  Attributes:
    residual: the residual stream at the block's input, [B, T, D].
    key: keys, rotated if positions are rotary, [B, T, N, H].
    value: values, [B, T, N, H].
  """

  residual: jax.Array
  key: jax.Array
  value: jax.Array


class Past(NamedTuple):
  """A decoder's keys and values of the positions before its inputs.

  Attributes:
    key: keys of every layer, rotated if positions are rotary,
      [L, B, S, N, H]; positions from `length` on are ignored.
    value: values, [L, B, S, N, H].
    length: number of earlier positions of each sequence, int32 [B].
  """

  key: jax.Array
  value: jax.Array
  length: jax.Array


def rotate(
  x_BxTxNxH: jax.Array,
  config: DecoderConfig,
  start: jax.Array | None = None,
) -> jax.Array:
  """Applies rotary positions to the first `rotary_width` dimensions of heads.

  Dimension i is paired with i + rotary_width / 2, as in GPT-NeoX.

  Args:
    x_BxTxNxH: queries or keys.
    config: has the width and base of the rotation.
    start: the first position of each sequence, int [B]; 0 by default.

  Returns:
    [B, T, N, H] in the dtype of the input.

  Source: Su et al. (2021), arXiv 2104.09864, section 3.4.
  """
  width, length = config.rotary_width, x_BxTxNxH.shape[1]
  precise = jnp.promote_types(jnp.float32, x_BxTxNxH.dtype)
  steps = jnp.arange(0, width, 2, dtype=precise) / width
  at_1xT = jnp.arange(length, dtype=precise)[None]
  if start is not None:
    at_1xT = at_1xT + start[:, None]
  angle_1xTxR = at_1xT[..., None] * (config.rotary_base**-steps)[None, None]
  cos_1xTx1xR = jnp.cos(angle_1xTxR)[:, :, None, :]
  sin_1xTx1xR = jnp.sin(angle_1xTxR)[:, :, None, :]
  first, second, rest = jnp.split(x_BxTxNxH, [width // 2, width], axis=-1)
  rotated = [
    first * cos_1xTx1xR - second * sin_1xTx1xR,
    second * cos_1xTx1xR + first * sin_1xTx1xR,
  ]
  return jnp.concatenate(
    [*(t.astype(x_BxTxNxH.dtype) for t in rotated), rest], axis=-1
  )


class Attention(nn.Module):
  """Self-attention with projections, under one spec per head."""

  config: DecoderConfig
  specs: LayerSpec
  implementation: Implementation = "auto"
  barrier: Barrier | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self,
    x_BxTxD: jax.Array,
    teacher_BxTxD: jax.Array | None,
    teacher: Context | None,
    edits: Edits = NO_EDITS,
    past: Past | None = None,
  ) -> jax.Array:
    """Attends.

    Args:
      x_BxTxD: the residual stream after LayerNorm.
      teacher_BxTxD: the teacher's residual stream after this model's LayerNorm.
      teacher: the teacher's context at this layer.
      edits: see `Decoder`.
      past: this layer's keys and values of earlier positions, without L.

    Returns:
      [B, T, D], to be added to the residual stream.
    """
    c = self.config
    dense = functools.partial(
      nn.Dense,
      c.width,
      dtype=self.dtype,
      kernel_init=nn.initializers.normal(c.init_std),
    )
    to_query, to_key, to_value = (
      dense(name=name) for name in ("query", "key", "value")
    )
    start = None if past is None else past.length

    def split(x: jax.Array) -> jax.Array:
      return x.reshape(*x.shape[:2], c.heads, c.head_width)

    def add_positions(x: jax.Array) -> jax.Array:
      return rotate(x, c, start) if c.positions == "rotary" else x

    def to_pair(x: jax.Array) -> KeyValue:
      return add_positions(split(to_key(x))), split(to_value(x))

    tapped = functools.partial(tap, self, edits)
    x_BxTxD = tapped("input", x_BxTxD)
    query = add_positions(split(to_query(x_BxTxD)))
    key, value = to_pair(x_BxTxD)
    query, key = tapped("query", query), tapped("key", key)
    value = tapped("value", value)

    if past is not None:
      out = _attend_past(query, key, value, past, self.barrier)
    else:
      context = functools.partial(
        _context, to_pair, x_BxTxD, teacher_BxTxD, teacher, key.dtype
      )
      out = attend(
        query,
        key,
        value,
        spec=self.specs,
        context=_by_head(self.specs, context),
        implementation=self.implementation,
        # Only the reference path computes a pattern.
        edit_pattern=functools.partial(tapped, "pattern")
        if self.implementation == "reference"
        else None,
        barrier=self.barrier,
      )
    out = tapped("head", out)
    return dense(
      name="out",
      kernel_init=nn.initializers.normal(c.init_std / math.sqrt(2 * c.layers)),
    )(out.reshape(x_BxTxD.shape))


def _context(
  to_pair: Callable[[jax.Array], KeyValue],
  x_BxTxD: jax.Array,
  teacher_BxTxD: jax.Array | None,
  teacher: Context | None,
  dtype: Any,
  spec: Spec,
) -> KeyValue:
  """Returns the context pair of a spec; gradient stops at its stop point."""
  if spec.source != "teacher":
    return to_pair(stop_gradient(x_BxTxD))
  if teacher is None or teacher_BxTxD is None:
    raise ValueError(f"attention {spec.name!r} needs a teacher's context")
  if spec.stop == "residual":
    return to_pair(stop_gradient(teacher_BxTxD))
  return teacher.key.astype(dtype), teacher.value.astype(dtype)


def _attend_past(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  past: Past,
  barrier: Barrier | None,
) -> jax.Array:
  """Attends to a past and, causally, to the inputs."""
  (batch, length), size = query.shape[:2], past.key.shape[1]
  exists_BxS = jnp.arange(size)[None] < past.length[:, None]
  mask_BxTxS = jnp.concatenate(
    [
      jnp.broadcast_to(exists_BxS[:, None], (batch, length, size)),
      jnp.broadcast_to(jnp.tri(length, dtype=bool), (batch, length, length)),
    ],
    axis=-1,
  )
  if barrier is not None:
    query_BxT = past.length[:, None] + jnp.arange(length)[None]
    key_BxS = jnp.concatenate(
      [jnp.broadcast_to(jnp.arange(size)[None], (batch, size)), query_BxT],
      axis=1,
    )
    first_query, first_key = barrier
    mask_BxTxS &= (query_BxT < first_query)[:, :, None] | (
      key_BxS >= first_key
    )[:, None]
  keys, values = (
    jnp.concatenate(pair, axis=1)
    for pair in ((past.key, key), (past.value, value))
  )
  # Softmax in float32 or float64, as in `attend`; jax.nn has no float64 one.
  precise = jnp.promote_types(jnp.float32, query.dtype)
  scores = jnp.einsum(
    "btnh,bsnh->bnts", query, keys, preferred_element_type=precise
  )
  scores = jnp.where(
    mask_BxTxS[:, None],
    scores / math.sqrt(query.shape[-1]),
    jnp.finfo(precise).min,
  )
  pattern = jax.nn.softmax(scores, axis=-1)
  out = jnp.einsum(
    "bnts,bsnh->btnh", pattern, values, preferred_element_type=precise
  )
  return out.astype(values.dtype)


def _by_head(
  specs: LayerSpec, context: Callable[[Spec], KeyValue]
) -> KeyValue | None:
  """Returns a layer's context pair; its heads may read different contexts."""
  kinds = dict.fromkeys((s.source, s.stop) for s in specs if s.needs_context)
  result: KeyValue | None = None
  for kind in kinds:
    reads = [s.needs_context and (s.source, s.stop) == kind for s in specs]
    pair = context(specs[reads.index(True)])
    if result is None:
      result = pair
    else:
      reads_1x1xNx1 = jnp.asarray(reads)[None, None, :, None]
      result = (
        jnp.where(reads_1x1xNx1, pair[0], result[0]),
        jnp.where(reads_1x1xNx1, pair[1], result[1]),
      )
  return result
