"""The attention of a block: projections around `jaxlook.attend`."""

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
  """What one layer of a teacher offers as context.

  Attributes:
    residual: the residual stream at the block's input, [B, T, D].
    key: its keys, rotated where positions are rotary, [B, T, N, H].
    value: its values, [B, T, N, H].
  """

  residual: jax.Array
  key: jax.Array
  value: jax.Array


class Past(NamedTuple):
  """What a decoder has computed of positions before its inputs.

  Attributes:
    key: keys of every layer, rotated where positions are rotary,
      [L, B, S, N, H]; those from `length` on are not looked at.
    value: values, [L, B, S, N, H].
    length: how many positions there are of each sequence, int32 [B].
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

  Pairs dimension i with i + rotary_width / 2, as GPT-NeoX does.

  Args:
    x_BxTxNxH: queries or keys.
    config: gives the width and base of the rotation.
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
  turned = [
    first * cos_1xTx1xR - second * sin_1xTx1xR,
    second * cos_1xTx1xR + first * sin_1xTx1xR,
  ]
  return jnp.concatenate(
    [*(t.astype(x_BxTxNxH.dtype) for t in turned), rest], axis=-1
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
      x_BxTxD: the normalised residual stream.
      teacher_BxTxD: the teacher's residual stream under this model's LayerNorm.
      teacher: the teacher's context at this layer.
      edits: as of `Decoder`.
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

    def split(x: jax.Array) -> jax.Array:
      return x.reshape(*x.shape[:2], c.heads, c.head_width)

    def turn(x: jax.Array) -> jax.Array:
      if c.positions != "rotary":
        return x
      return rotate(x, c, None if past is None else past.length)

    def pair(x: jax.Array) -> tuple[jax.Array, jax.Array]:
      return turn(split(to_key(x))), split(to_value(x))

    seen = functools.partial(tap, self, edits)
    x_BxTxD = seen("input", x_BxTxD)
    query, (key, value) = turn(split(to_query(x_BxTxD))), pair(x_BxTxD)
    query, key = seen("query", query), seen("key", key)
    value = seen("value", value)

    def context(spec: Spec) -> tuple[jax.Array, jax.Array]:
      if spec.source != "teacher":
        return pair(stop_gradient(x_BxTxD))
      if teacher is None or teacher_BxTxD is None:
        raise ValueError(f"attention {spec.name!r} needs a teacher's context")
      if spec.stop == "residual":
        return pair(stop_gradient(teacher_BxTxD))
      return teacher.key.astype(key.dtype), teacher.value.astype(key.dtype)

    if past is not None:
      out = _attend_past(query, key, value, past, self.barrier)
    else:
      out = attend(
        query,
        key,
        value,
        spec=self.specs,
        context=_by_head(self.specs, context),
        implementation=self.implementation,
        # Only the reference path has a pattern to look at.
        edit_pattern=functools.partial(seen, "pattern")
        if self.implementation == "reference"
        else None,
        barrier=self.barrier,
      )
    out = seen("head", out)
    return dense(
      name="out",
      kernel_init=nn.initializers.normal(c.init_std / math.sqrt(2 * c.layers)),
    )(out.reshape(x_BxTxD.shape))


def _attend_past(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  past: Past,
  barrier: Barrier | None,
) -> jax.Array:
  """Ordinary attention to a past and, causally, to the inputs themselves."""
  (batch, length), size = query.shape[:2], past.key.shape[1]
  there_BxS = jnp.arange(size)[None] < past.length[:, None]
  mask_BxTxS = jnp.concatenate(
    [
      jnp.broadcast_to(there_BxS[:, None], (batch, length, size)),
      jnp.broadcast_to(jnp.tri(length, dtype=bool), (batch, length, length)),
    ],
    axis=-1,
  )
  if barrier is not None:
    now_BxT = past.length[:, None] + jnp.arange(length)[None]
    then_BxS = jnp.concatenate(
      [jnp.broadcast_to(jnp.arange(size)[None], (batch, size)), now_BxT], axis=1
    )
    first_query, first_key = barrier
    mask_BxTxS &= (now_BxT < first_query)[:, :, None] | (then_BxS >= first_key)[
      :, None
    ]
  keys, values = (
    jnp.concatenate(pair, axis=1)
    for pair in ((past.key, key), (past.value, value))
  )
  # Softmax in float32 at least, as in `attend`; jax.nn's is never in float64.
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
  """The context pair of a layer whose heads may read different contexts."""
  needing = dict.fromkeys((s.source, s.stop) for s in specs if s.needs_context)
  result: KeyValue | None = None
  for kind in needing:
    reads = [s.needs_context and (s.source, s.stop) == kind for s in specs]
    pair = context(specs[reads.index(True)])
    if result is None:
      result = pair
    else:
      here = jnp.asarray(reads)[None, None, :, None]
      result = (
        jnp.where(here, pair[0], result[0]),
        jnp.where(here, pair[1], result[1]),
      )
  return result
