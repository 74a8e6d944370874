"""One Linen decoder for the GPT-2 and GPT-NeoX shapes, any attention variant.

Every activation of `jaxlook.models.site_names` passes a tap: it is sown in the
collection `intermediates`, and an edit given for its site may change it. The
gradient to an activation is the gradient to what an edit adds to it. Dropout is
left out: the experiments train on fresh data.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from jaxlook.attention import Spec, attend, parse_layers
from jaxlook.attention.attend import Implementation
from jaxlook.attention.reference import Pair
from jaxlook.models.config import DecoderConfig
from jaxlook.models.sites import NO_EDITS, Edits, check_sites, sown, tap

Params = Any
LayerSpec = tuple[Spec, ...]

_ACTIVATIONS = {
  "gelu_tanh": functools.partial(nn.gelu, approximate=True),
  "gelu": functools.partial(nn.gelu, approximate=False),
  "relu": nn.relu,
}


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


def rotate(x_BxTxNxH: jax.Array, config: DecoderConfig) -> jax.Array:
  """Applies rotary positions to the first `rotary_width` dimensions of heads.

  Pairs dimension i with i + rotary_width / 2, as GPT-NeoX does.

  Args:
    x_BxTxNxH: queries or keys.
    config: gives the width and base of the rotation.

  Returns:
    [B, T, N, H] in the dtype of the input.

  Source: Su et al. (2021), arXiv 2104.09864, section 3.4.
  """
  width, length = config.rotary_width, x_BxTxNxH.shape[1]
  precise = jnp.promote_types(jnp.float32, x_BxTxNxH.dtype)
  steps = jnp.arange(0, width, 2, dtype=precise) / width
  angle_TxR = jnp.outer(
    jnp.arange(length, dtype=precise), config.rotary_base**-steps
  )
  cos_1xTx1xR = jnp.cos(angle_TxR)[None, :, None, :]
  sin_1xTx1xR = jnp.sin(angle_TxR)[None, :, None, :]
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

  @nn.compact
  def __call__(
    self,
    x_BxTxD: jax.Array,
    teacher_BxTxD: jax.Array | None,
    teacher: Context | None,
    edits: Edits = NO_EDITS,
  ) -> jax.Array:
    """Attends.

    Args:
      x_BxTxD: the normalised residual stream.
      teacher_BxTxD: the teacher's residual stream under this model's LayerNorm.
      teacher: the teacher's context at this layer.
      edits: as of `Decoder`.

    Returns:
      [B, T, D], to be added to the residual stream.
    """
    c = self.config
    dense = functools.partial(
      nn.Dense, c.width, kernel_init=nn.initializers.normal(c.init_std)
    )
    to_query, to_key, to_value = (
      dense(name=name) for name in ("query", "key", "value")
    )

    def split(x: jax.Array) -> jax.Array:
      return x.reshape(*x.shape[:2], c.heads, c.head_width)

    def turn(x: jax.Array) -> jax.Array:
      return rotate(x, c) if c.positions == "rotary" else x

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
      return teacher.key, teacher.value

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
    )
    out = seen("head", out)
    return dense(
      name="out",
      kernel_init=nn.initializers.normal(c.init_std / math.sqrt(2 * c.layers)),
    )(out.reshape(x_BxTxD.shape))


def _by_head(specs: LayerSpec, context: Callable[[Spec], Pair]) -> Pair | None:
  """The context pair of a layer whose heads may read different contexts."""
  needing = dict.fromkeys((s.source, s.stop) for s in specs if s.needs_context)
  result: Pair | None = None
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


class Mlp(nn.Module):
  """The feed-forward layer."""

  config: DecoderConfig

  @nn.compact
  def __call__(self, x_BxTxD: jax.Array, edits: Edits = NO_EDITS) -> jax.Array:
    """Returns [B, T, D], to be added to the residual stream."""
    c = self.config
    hidden_BxTxF = nn.Dense(
      c.hidden_width, kernel_init=nn.initializers.normal(c.init_std), name="up"
    )(x_BxTxD)
    hidden_BxTxF = _ACTIVATIONS[c.activation](hidden_BxTxF)
    return nn.Dense(
      c.width,
      kernel_init=nn.initializers.normal(c.init_std / math.sqrt(2 * c.layers)),
      name="down",
    )(tap(self, edits, "neuron", hidden_BxTxF))


class Block(nn.Module):
  """One layer: attention and MLP, in turn (GPT-2) or in parallel (NeoX)."""

  config: DecoderConfig
  specs: LayerSpec
  implementation: Implementation = "auto"

  @nn.compact
  def __call__(
    self,
    x_BxTxD: jax.Array,
    teacher: Context | None,
    edits: Edits = NO_EDITS,
  ) -> jax.Array:
    """Returns the residual stream after the block, [B, T, D]."""
    c = self.config
    x_BxTxD = tap(self, edits, "residual", x_BxTxD)
    norm = _norm(c, "attention_norm")
    attended = Attention(c, self.specs, self.implementation, name="attention")(
      norm(x_BxTxD),
      None if teacher is None else norm(teacher.residual),
      teacher,
      edits,
    )
    after = x_BxTxD + attended
    if c.hidden_width == 0:
      return after
    read = x_BxTxD if c.parallel_residual else after
    return after + Mlp(c, name="mlp")(_norm(c, "mlp_norm")(read), edits)


class Decoder(nn.Module):
  """A causal decoder over tokens or continuous inputs.

  Attributes:
    config: the shape.
    attention: the variant: its flag form, or the spec of each layer and head.
    implementation: as in `jaxlook.attend`; attention patterns are there to be
      seen and edited under "reference" only.
  """

  config: DecoderConfig
  attention: str | tuple[LayerSpec, ...] = "causal"
  implementation: Implementation = "auto"

  @nn.compact
  def __call__(
    self,
    inputs: jax.Array,
    teacher: tuple[Context, ...] | None = None,
    edits: Edits = NO_EDITS,
  ) -> jax.Array:
    """Applies the decoder.

    Args:
      inputs: tokens, integer [B, T], or features, float [B, T, input_features].
      teacher: another model's context for each layer, from `collect_context`;
        needed by the variant `teacher` only.
      edits: by site, a function that gives the activation to go on with, of the
        shape and dtype of the one that it is given. A context from a stopped
        residual stream or a teacher is not a site; see
        `jaxlook.lookahead.interventions.forward_only`.

    Returns:
      Logits [B, T, vocab_size], or outputs [B, T, output_features].

    Raises:
      ValueError: the sequence is longer than `max_length`, the variant does not
        fit the number of layers or heads, it needs a teacher and has none, or
        there is no site to edit of a name.
    """
    c = self.config
    check_sites(c, edits, patterns=self.implementation == "reference")
    if inputs.shape[1] > c.max_length:
      raise ValueError(
        f"sequences of length {inputs.shape[1]} exceed max_length="
        f"{c.max_length}"
      )
    specs = self.attention
    if isinstance(specs, str):
      specs = parse_layers(specs, c.layers, c.heads)
    if len(specs) != c.layers:
      raise ValueError(
        f"attention is given for {len(specs)} layers, the model has {c.layers}"
      )
    normal = nn.initializers.normal(c.init_std)
    embed = None
    if c.vocab_size is not None:
      embed = nn.Embed(
        c.vocab_size, c.width, embedding_init=normal, name="token_embedding"
      )
      x_BxTxD = embed(inputs)
    else:
      x_BxTxD = nn.Dense(c.width, kernel_init=normal, name="input")(inputs)
    if c.positions == "learned":
      table_PxD = self.param(
        "position_embedding", normal, (c.max_length, c.width), jnp.float32
      )
      x_BxTxD = x_BxTxD + table_PxD[None, : inputs.shape[1]]
    for layer in range(c.layers):
      x_BxTxD = Block(
        c, specs[layer], self.implementation, name=f"block_{layer}"
      )(x_BxTxD, None if teacher is None else teacher[layer], edits)
    x_BxTxD = tap(self, edits, "residual", x_BxTxD)
    x_BxTxD = _norm(c, "final_norm")(x_BxTxD)
    if embed is not None and c.shares_embedding:
      return embed.attend(x_BxTxD)
    return nn.Dense(
      c.output_features or c.vocab_size or 0,
      use_bias=c.output_features is not None,
      kernel_init=normal,
      name="head",
    )(x_BxTxD)


def _norm(config: DecoderConfig, name: str) -> nn.LayerNorm:
  # The one-pass variance loses half the digits of a nearly constant input.
  return nn.LayerNorm(
    epsilon=config.norm_epsilon, use_fast_variance=False, name=name
  )


def init(config: DecoderConfig, key: jax.Array) -> Params:
  """Draws parameters; the same for every attention variant.

  Args:
    config: the shape.
    key: a PRNG key, consumed.

  Returns:
    The parameter tree, float32.
  """
  if config.vocab_size is not None:
    inputs = jnp.zeros((1, 1), jnp.int32)
  else:
    inputs = jnp.zeros((1, 1, config.input_features or 0))
  return Decoder(config).init(key, inputs)["params"]


def apply(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  teacher: tuple[Context, ...] | None = None,
  edits: Edits = NO_EDITS,
) -> jax.Array:
  """Applies a decoder to parameters from `init`.

  Args:
    decoder: the model under a variant.
    params: its parameters.
    inputs: as of `Decoder`.
    teacher: as of `Decoder`.
    edits: as of `Decoder`.

  Returns:
    Logits [B, T, vocab_size], or outputs [B, T, output_features].

  Raises:
    ValueError: as `Decoder`.
  """
  return cast(
    jax.Array, decoder.apply({"params": params}, inputs, teacher, edits)
  )


def collect_context(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  teacher: tuple[Context, ...] | None = None,
) -> tuple[jax.Array, tuple[Context, ...]]:
  """Applies a decoder and returns what each layer offers as context.

  Args:
    decoder: the model.
    params: its parameters.
    inputs: as of `Decoder`.
    teacher: as of `Decoder`.

  Returns:
    The outputs, and the `Context` of each layer.
  """
  outputs, state = decoder.apply(
    {"params": params}, inputs, teacher, mutable=["intermediates"]
  )
  seen = sown(cast(dict[str, Any], state["intermediates"]))
  return cast(jax.Array, outputs), tuple(
    Context(
      residual=seen[f"block_{layer}/residual"],
      key=seen[f"block_{layer}/attention/key"],
      value=seen[f"block_{layer}/attention/value"],
    )
    for layer in range(decoder.config.layers)
  )
