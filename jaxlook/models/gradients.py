"""The next-token loss of a decoder, and its gradient under the variant."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlook.errors import check_ids
from jaxlook.models.config import DecoderConfig
from jaxlook.models.decoder import Context, Decoder, Params, collect_context


def check_tokens(config: DecoderConfig, tokens: np.ndarray) -> None:
  """Raises an error if a decoder cannot predict the next tokens.

  Call it before `next_token_loss`, which is traced and cannot check values.

  Args:
    config: the decoder's shape.
    tokens: integer [batch, length].

  Raises:
    ValueError: there is no sequence, its length is below 2 or above
      `max_length`, or a token is outside the vocabulary.
  """
  batch, length = tokens.shape
  if batch < 1 or length < 2:
    raise ValueError(
      f"tokens must be at least 1 sequence of at least 2 tokens, not {batch} of"
      f" {length}"
    )
  if length > config.max_length:
    raise ValueError(
      f"sequences of length {length} exceed the model's {config.max_length}"
      " positions"
    )
  check_ids(config.vocab_size or 0, tokens)


def next_token_loss(
  decoder: Decoder,
  params: Params,
  tokens: jax.Array,
  teacher: tuple[Context, ...] | None = None,
) -> jax.Array:
  """Returns the mean cross-entropy of each token after the first.

  Args:
    decoder: a decoder over tokens.
    params: its parameters.
    tokens: integer [batch, length], length at least 2, within the vocabulary;
      see `check_tokens`.
    teacher: another model's context for the same tokens, from
      `collect_context`; only for the variant `teacher`.

  Returns:
    Nats per token, a floating scalar.

  Raises:
    ValueError: the decoder has no logits or the length is below 2; see also
      `Decoder`.
    AssertionError: the tokens are not an integer array of rank 2.
  """
  chex.assert_rank(tokens, 2)
  chex.assert_type(tokens, int)
  config = decoder.config
  if config.vocab_size is None or config.output_features is not None:
    raise ValueError("next_token_loss needs a decoder from tokens to logits")
  if tokens.shape[1] < 2:
    raise ValueError(f"length must be at least 2, not {tokens.shape[1]}")
  logits_BxTxV = jnp.asarray(decoder.apply({"params": params}, tokens, teacher))
  losses_BxT = optax.softmax_cross_entropy_with_integer_labels(
    logits_BxTxV[:, :-1], tokens[:, 1:]
  )
  return losses_BxT.mean()


def loss_and_gradients(
  decoder: Decoder,
  params: Params,
  tokens: jax.Array,
  teacher: tuple[Context, ...] | None = None,
) -> tuple[jax.Array, Params]:
  """Returns the next-token loss and its gradient for every parameter.

  Args:
    decoder: see `next_token_loss`; its variant determines which terms of the
      gradient flow.
    params: see `next_token_loss`.
    tokens: see `next_token_loss`.
    teacher: see `next_token_loss`; gets no gradient.

  Returns:
    Nats per token, and the gradient, with structure, shapes and dtypes of the
    parameters.

  Raises:
    ValueError: see `next_token_loss`.
    AssertionError: see `next_token_loss`.
  """
  return jax.value_and_grad(next_token_loss, argnums=1)(
    decoder, params, tokens, teacher
  )


def precise_loss_and_gradients(
  decoder: Decoder,
  params: Params,
  tokens: np.ndarray,
  teacher: tuple[Decoder, Params] | None = None,
) -> tuple[jax.Array, Params]:
  """As `loss_and_gradients`, compiled, with full float32 products.

  Accelerators would otherwise multiply in fewer digits than the weights have.

  Args:
    decoder: see `next_token_loss`.
    params: see `next_token_loss`.
    tokens: integer [batch, length] of any width; see `check_tokens`.
    teacher: the model whose context the variant `teacher` reads, and its
      parameters.

  Returns:
    As `loss_and_gradients`.

  Raises:
    ValueError: as `next_token_loss`.
    AssertionError: as `next_token_loss`.
  """
  check_ids(decoder.config.vocab_size, tokens)
  tokens = tokens.astype(np.int32)
  context = None
  with jax.default_matmul_precision("highest"):
    if teacher is not None:
      _, context = jax.jit(collect_context, static_argnums=0)(*teacher, tokens)
    return jax.jit(loss_and_gradients, static_argnums=0)(
      decoder, params, tokens, context
    )
