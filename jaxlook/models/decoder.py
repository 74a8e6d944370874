"""A Linen decoder with GPT-2's or GPT-NeoX's shape and any attention variant.

Every activation in `jaxlook.models.site_names` is sown in the collection
`intermediates`, and an edit for its site may change it. The gradient of an
activation is the gradient of a term that an edit adds to it. There is no
dropout, because the experiments train on fresh data.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlook.attention import Spec, Variant, parse_variant
from jaxlook.attention.attend import Implementation
from jaxlook.attention.masks import Barrier
from jaxlook.errors import SettingError, check_ids
from jaxlook.models.attention_layer import Attention, Context, LayerSpec, Past
from jaxlook.models.config import DecoderConfig
from jaxlook.models.output_head import Head
from jaxlook.models.sites import NO_EDITS, Edits, check_sites, sown, tap
from jaxlook.numerals import counted

Params = Any

_ACTIVATIONS = {
  "gelu_tanh": functools.partial(nn.gelu, approximate=True),
  "gelu": functools.partial(nn.gelu, approximate=False),
  "relu": nn.relu,
}


class Mlp(nn.Module):
  """The feed-forward layer."""

  config: DecoderConfig
  dtype: Any = None

  @nn.compact
  def __call__(self, x_BxTxD: jax.Array, edits: Edits = NO_EDITS) -> jax.Array:
    """Returns [B, T, D], to be added to the residual stream."""
    c = self.config
    hidden_BxTxF = nn.Dense(
      c.hidden_width,
      dtype=self.dtype,
      kernel_init=nn.initializers.normal(c.init_std),
      name="up",
    )(x_BxTxD)
    hidden_BxTxF = _ACTIVATIONS[c.activation](hidden_BxTxF)
    return nn.Dense(
      c.width,
      dtype=self.dtype,
      kernel_init=nn.initializers.normal(c.init_std / math.sqrt(2 * c.layers)),
      name="down",
    )(tap(self, edits, "neuron", hidden_BxTxF))


class Block(nn.Module):
  """One layer: attention and MLP, in sequence (GPT-2) or parallel (NeoX)."""

  config: DecoderConfig
  specs: LayerSpec
  implementation: Implementation = "auto"
  barrier: Barrier | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self,
    x_BxTxD: jax.Array,
    teacher: Context | None,
    edits: Edits = NO_EDITS,
    past: Past | None = None,
  ) -> jax.Array:
    """Returns the residual stream after the block, [B, T, D]."""
    c = self.config
    x_BxTxD = tap(self, edits, "residual", x_BxTxD)
    norm = _norm(c, "attention_norm", self.dtype)
    attended = Attention(
      config=c,
      specs=self.specs,
      implementation=self.implementation,
      barrier=self.barrier,
      dtype=self.dtype,
      name="attention",
    )(
      norm(x_BxTxD),
      None if teacher is None else norm(teacher.residual),
      teacher,
      edits,
      past,
    )
    after = x_BxTxD + attended
    if c.hidden_width == 0:
      return after
    mlp_input = x_BxTxD if c.parallel_residual else after
    normed = _norm(c, "mlp_norm", self.dtype)(mlp_input)
    return after + Mlp(c, self.dtype, name="mlp")(normed, edits)


class Decoder(nn.Module):
  """A causal decoder over tokens or continuous inputs.

  Attributes:
    config: the shape.
    attention: the variant; or its flag form, one spec for all heads, or a
      sequence with one spec for each layer, which become the variant when the
      module is created.
    implementation: see `jaxlook.attend`; attention patterns can be read and
      edited only under "reference".
    barrier: (first_query, first_key): in every layer, queries at first_query
      and later do not see keys before first_key; None for no barrier.
    bfloat16: whether the matrix products of blocks and head, and the
      activations between them, are bfloat16. The residual stream, LayerNorm's
      statistics, the softmax, outputs and parameters stay float32.
    remat: whether the backward pass recomputes the activations of a block from
      its input, so that only the residual stream is stored. It saves no memory
      on CPUs: XLA merges both computations and stores all activations.

  Raises:
    SettingError: the variant's form is unknown, or it is for another number of
      layers or heads than the model has.
  """

  config: DecoderConfig
  attention: Variant | str | Spec | Sequence[Spec] = "causal"
  implementation: Implementation = "auto"
  barrier: Barrier | None = None
  bfloat16: bool = False
  remat: bool = False

  def __post_init__(self):
    """Parses the flag form, and checks the variant's shape."""
    c = self.config
    self.attention = _variant(self.attention, c)
    layers, heads = self.variant.layers, self.variant.heads
    if (layers, heads) != (c.layers, c.heads):
      raise SettingError(
        "attention",
        f"{self.variant.name!r} is for {counted(layers, 'layer')} of"
        f" {counted(heads, 'head')}, the model has {c.layers} of {c.heads}",
      )
    super().__post_init__()

  @property
  def variant(self) -> Variant:
    """`attention`, with the type that it has in a module."""
    return cast(Variant, self.attention)

  @property
  def dtype(self) -> Any:
    """Dtype of factors; None for that of the parameters."""
    return jnp.bfloat16 if self.bfloat16 else None

  @nn.compact
  def __call__(
    self,
    inputs: jax.Array,
    teacher: tuple[Context, ...] | None = None,
    edits: Edits = NO_EDITS,
    past: Past | None = None,
    headless: bool = False,
  ) -> jax.Array:
    """Applies the decoder.

    Args:
      inputs: tokens, integer [B, T], or features, float [B, T, input_features].
      teacher: another model's context for each layer, from `collect_context`;
        only for the variant `teacher`.
      edits: functions by site; each maps an activation to an array of the same
        shape and dtype. A context from a stopped residual stream or a teacher
        is not a site; see `jaxlook.interventions.forward.forward_only`.
      past: keys and values of positions before the inputs, for variants with
        an ordinary forward pass; see `jaxlook.decoding`. The total length is
        traced and cannot be checked.
      headless: whether to leave out the head; see `apply_head`.

    Returns:
      Logits [B, T, vocab_size], or outputs [B, T, output_features]; the head's
      input, [B, T, D], if headless.

    Raises:
      ValueError: the sequence is longer than `max_length`, a token that is not
        traced is outside the vocabulary, the variant needs a teacher and has
        none, it changes the forward pass and there is a past,
        or an edit's site does not exist.
    """
    c = self.config
    _check_call(self, inputs, edits, past)
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
      x_BxTxD = x_BxTxD + _position_embedding(table_PxD, inputs.shape[1], past)
    # Edits are functions, so remat must treat them as static.
    block = nn.remat(Block, static_argnums=(3,)) if self.remat else Block
    for layer in range(c.layers):
      layer_past = None
      if past is not None:
        layer_past = Past(past.key[layer], past.value[layer], past.length)
      x_BxTxD = block(
        config=c,
        specs=self.variant.specs[layer],
        implementation=self.implementation,
        barrier=self.barrier,
        dtype=self.dtype,
        name=f"block_{layer}",
      )(x_BxTxD, None if teacher is None else teacher[layer], edits, layer_past)
    x_BxTxD = tap(self, edits, "residual", x_BxTxD)
    x_BxTxD = _norm(c, "final_norm", self.dtype)(x_BxTxD)
    if headless:
      return x_BxTxD
    table_VxD = None
    if embed is not None and c.shares_embedding:
      if self.dtype is None:
        return embed.attend(x_BxTxD)
      table_VxD = embed.embedding
    return Head(c, self.dtype, name="head")(x_BxTxD, table_VxD)


def _variant(attention: Any, config: DecoderConfig) -> Variant:
  """The variant that a user means; see `Decoder`."""
  if isinstance(attention, Variant):
    return attention
  if isinstance(attention, str):
    return parse_variant(attention, config.layers, config.heads)
  if isinstance(attention, Spec):
    return Variant.uniform(attention, config.layers, config.heads)
  if isinstance(attention, Sequence) and all(
    isinstance(spec, Spec) for spec in attention
  ):
    return Variant(tuple((spec,) * config.heads for spec in attention))
  raise SettingError(
    "attention",
    "must be a Variant, its form as text, a Spec, or a Spec for each layer, not"
    f" {type(attention).__name__}",
  )


def _check_call(
  decoder: Decoder, inputs: jax.Array, edits: Edits, past: Past | None
) -> None:
  """Raises ValueError for arguments that `Decoder` cannot use."""
  # With a past, patterns would lack the positions of the past.
  patterns = decoder.implementation == "reference" and past is None
  check_sites(decoder.config, edits, patterns=patterns)
  check_ids(decoder.config.vocab_size, inputs)
  max_length = decoder.config.max_length
  if inputs.shape[1] > max_length:
    raise ValueError(
      f"sequences of length {inputs.shape[1]} exceed max_length={max_length}"
    )
  if past is not None and not decoder.variant.keeps_forward:
    raise ValueError(
      f"attention {decoder.variant.name!r} changes the forward pass, so it"
      " takes no past"
    )


def _position_embedding(
  table_PxD: jax.Array, length: int, past: Past | None
) -> jax.Array:
  """Returns the embeddings of the inputs' positions, [1 or B, T, D]."""
  if past is None:
    return table_PxD[None, :length]
  return table_PxD[past.length[:, None] + jnp.arange(length)[None]]


def _norm(config: DecoderConfig, name: str, dtype: Any) -> nn.LayerNorm:
  # The one-pass variance loses half the digits if the input is almost constant.
  return nn.LayerNorm(
    epsilon=config.norm_epsilon,
    dtype=dtype,
    use_fast_variance=False,
    name=name,
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
  *,
  headless: bool = False,
) -> jax.Array:
  """Applies a decoder to parameters from `init`.

  Args:
    decoder: the model under a variant.
    params: its parameters.
    inputs: see `Decoder`.
    teacher: see `Decoder`.
    edits: see `Decoder`.
    headless: see `Decoder`.

  Returns:
    See `Decoder`.

  Raises:
    ValueError: see `Decoder`.
  """
  return cast(
    jax.Array,
    decoder.apply(
      {"params": params}, inputs, teacher, edits, headless=headless
    ),
  )


def apply_head(decoder: Decoder, params: Params, x_BxTxD: jax.Array) -> Any:
  """Applies only the head.

  Args:
    decoder: the model.
    params: its parameters.
    x_BxTxD: outputs of the headless decoder, at any positions.

  Returns:
    Logits [B, T, vocab_size], or outputs [B, T, output_features].
  """
  c, embedding = decoder.config, None
  if c.shares_embedding:
    embedding = params["token_embedding"]["embedding"]
  return Head(c, decoder.dtype).apply(
    {"params": params.get("head", {})}, x_BxTxD, embedding
  )


def collect_context(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  teacher: tuple[Context, ...] | None = None,
) -> tuple[jax.Array, tuple[Context, ...]]:
  """Applies a decoder, and collects the context of each layer for students.

  Args:
    decoder: the model.
    params: its parameters.
    inputs: see `Decoder`.
    teacher: see `Decoder`.

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
