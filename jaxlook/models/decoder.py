"""One Linen decoder for the GPT-2 and GPT-NeoX shapes, any attention variant.

Every activation of `jaxlook.models.site_names` passes a tap: it is sown in the
collection `intermediates`, and an edit given for its site may change it. The
gradient to an activation is the gradient to what an edit adds to it. Dropout is
left out: the experiments train on fresh data.
"""

import functools
import math
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlook.attention import Variant, parse_variant
from jaxlook.attention.attend import Implementation
from jaxlook.attention.masks import Barrier
from jaxlook.errors import SettingError
from jaxlook.models.attention_layer import Attention, Context, LayerSpec, Past
from jaxlook.models.config import DecoderConfig
from jaxlook.models.output_head import Head
from jaxlook.models.sites import NO_EDITS, Edits, check_sites, sown, tap

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
  """One layer: attention and MLP, in turn (GPT-2) or in parallel (NeoX)."""

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
      *(c, self.specs, self.implementation, self.barrier, self.dtype),
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
    read = x_BxTxD if c.parallel_residual else after
    normed = _norm(c, "mlp_norm", self.dtype)(read)
    return after + Mlp(c, self.dtype, name="mlp")(normed, edits)


class Decoder(nn.Module):
  """A causal decoder over tokens or continuous inputs.

  Attributes:
    config: the shape.
    attention: the variant. Its flag form will do, too: it is read when the
      module is made, so that this attribute always holds a `Variant`.
    implementation: as in `jaxlook.attend`; attention patterns are there to be
      seen and edited under "reference" only.
    barrier: (first_query, first_key): positions from the one on see, in every
      layer, none before the other; None for none.
    bfloat16: whether the matrix products of blocks and head take bfloat16, and
      so do the activations between them. The residual stream, the statistics of
      LayerNorm, the softmax, the outputs and the parameters stay float32.
    remat: whether the backward pass computes the activations of a block again
      from its input, so that only the residual stream is kept of every block.
      XLA's compiler for CPUs finds both to be the same, and keeps all.

  Raises:
    SettingError: the variant's form is unknown, or it is for another number of
      layers or heads than the model has.
  """

  config: DecoderConfig
  attention: Variant | str = "causal"
  implementation: Implementation = "auto"
  barrier: Barrier | None = None
  bfloat16: bool = False
  remat: bool = False

  def __post_init__(self):
    """Reads a variant's form; refuses a variant of another shape."""
    c = self.config
    if isinstance(self.attention, str):
      self.attention = parse_variant(self.attention, c.layers, c.heads)
    given = (self.variant.layers, self.variant.heads)
    if given != (c.layers, c.heads):
      raise SettingError(
        "attention",
        f"{self.variant.name!r} is for {given[0]} layers of {given[1]} heads,"
        f" the model has {c.layers} of {c.heads}",
      )
    super().__post_init__()

  @property
  def variant(self) -> Variant:
    """`attention`, typed as what it is once the module is made."""
    return cast(Variant, self.attention)

  @property
  def dtype(self) -> Any:
    """What is multiplied; None for the dtype of the parameters."""
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
        needed by the variant `teacher` only.
      edits: by site, a function that gives the activation to go on with, of the
        shape and dtype of the one that it is given. A context from a stopped
        residual stream or a teacher is not a site; see
        `jaxlook.interventions.forward.forward_only`.
      past: of positions before the inputs, for variants whose forward pass is
        ordinary; see `jaxlook.decoding`. How long the whole is cannot be
        checked here.
      headless: whether to leave out the head; see `apply_head`.

    Returns:
      Logits [B, T, vocab_size], or outputs [B, T, output_features]; what the
      head would read, [B, T, D], if headless.

    Raises:
      ValueError: the sequence is longer than `max_length`, the variant needs a
        teacher and has none, it changes the forward pass and there is a past,
        or there is no site to edit of a name.
    """
    c = self.config
    # With a past, patterns would lack the positions that are in it.
    patterns = self.implementation == "reference" and past is None
    check_sites(c, edits, patterns=patterns)
    if inputs.shape[1] > c.max_length:
      raise ValueError(
        f"sequences of length {inputs.shape[1]} exceed max_length="
        f"{c.max_length}"
      )
    if past is not None and not self.variant.keeps_forward:
      raise ValueError(
        f"attention {self.variant.name!r} changes the forward pass, so it takes"
        " no past"
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
      table_1xTxD = table_PxD[None, : inputs.shape[1]]
      if past is not None:
        at_BxT = past.length[:, None] + jnp.arange(inputs.shape[1])[None]
        table_1xTxD = table_PxD[at_BxT]
      x_BxTxD = x_BxTxD + table_1xTxD
    # Edits are functions, which nothing but Python can pass on.
    block = nn.remat(Block, static_argnums=(3,)) if self.remat else Block
    for layer in range(c.layers):
      x_BxTxD = block(
        *(
          c,
          self.variant.specs[layer],
          self.implementation,
          self.barrier,
          self.dtype,
        ),
        name=f"block_{layer}",
      )(
        x_BxTxD,
        None if teacher is None else teacher[layer],
        edits,
        None
        if past is None
        else Past(past.key[layer], past.value[layer], past.length),
      )
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


def _norm(config: DecoderConfig, name: str, dtype: Any) -> nn.LayerNorm:
  # The one-pass variance loses half the digits of a nearly constant input.
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
    inputs: as of `Decoder`.
    teacher: as of `Decoder`.
    edits: as of `Decoder`.
    headless: as of `Decoder`.

  Returns:
    As `Decoder`.

  Raises:
    ValueError: as `Decoder`.
  """
  return cast(
    jax.Array,
    decoder.apply(
      {"params": params}, inputs, teacher, edits, headless=headless
    ),
  )


def apply_head(decoder: Decoder, params: Params, x_BxTxD: jax.Array) -> Any:
  """Applies the head alone.

  Args:
    decoder: the model.
    params: its parameters.
    x_BxTxD: what the headless decoder returns, of any positions.

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
