"""Everything that the microscope shows of one model on one text.

One compiled program computes it.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.circuits.lens import logit_lens
from jaxlook.errors import check_ids
from jaxlook.interventions.forward import capture
from jaxlook.lookahead.influence import influence
from jaxlook.models import Decoder
from jaxlook.tasks.losses import cross_entropy


class ModelView(NamedTuple):
  """What one model computes on the text.

  Attributes:
    pattern: attention, [L, N, T, T].
    neurons: activations, [L, T, F]; F is 0 without feed-forward layers.
    top: ids of the most probable next tokens by depth, [L + 1, T, K].
    share: the probabilities of these tokens, [L + 1, T, K].
    next_share: probability of the text's next token, [L + 1, T - 1].
    next_rank: rank of the text's next token, [L + 1, T - 1]; 1 is the most
      probable token.
    influence: [L, T, T].
  """

  pattern: Any
  neurons: Any
  top: Any
  share: Any
  next_share: Any
  next_rank: Any
  influence: Any


def observe_model(
  decoder: Decoder, params: Any, tokens_1xT: jax.Array, count: int
) -> ModelView:
  """Runs a model on a text and keeps what the microscope shows.

  Args:
    decoder: the model, over tokens and without a teacher. Influence is computed
      from the gradients that its variant keeps; see `forward_only`.
    params: its parameters, of one seed.
    tokens_1xT: the text, integer [1, T], of at least two tokens.
    count: how many next tokens to keep, K; at most the size of the vocabulary.

  Returns:
    Arrays without the batch axis.

  Raises:
    ValueError: see `Decoder`.
  """
  check_ids(decoder.config.vocab_size, tokens_1xT)
  return _observe(decoder, params, tokens_1xT, count)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _observe(
  decoder: Decoder, params: Any, tokens_1xT: jax.Array, count: int
) -> ModelView:
  c = decoder.config
  blocks = [f"block_{layer}" for layer in range(c.layers)]
  patterns = [f"{block}/attention/pattern" for block in blocks]
  neurons = [f"{block}/mlp/neuron" for block in blocks if c.hidden_width]
  _, seen = capture(decoder, params, tokens_1xT, [*patterns, *neurons])
  length = tokens_1xT.shape[1]
  logits_RxTxV = logit_lens(decoder, params, tokens_1xT)[:, 0]
  share_RxTxV = jax.nn.softmax(logits_RxTxV)
  share, top = jax.lax.top_k(share_RxTxV, min(count, share_RxTxV.shape[-1]))
  came = jnp.broadcast_to(
    tokens_1xT[..., 1:, None], (c.layers + 1, length - 1, 1)
  )
  next_share = jnp.take_along_axis(share_RxTxV[:, :-1], came, axis=-1)
  ahead = share_RxTxV[:, :-1] > next_share

  def losses(logits_1xTxV: jax.Array) -> jax.Array:
    # Nothing follows the last token, so its loss is a constant.
    next_losses = cross_entropy(logits_1xTxV[:, :-1], tokens_1xT[:, 1:])
    return jnp.pad(next_losses, ((0, 0), (0, 1)))

  return ModelView(
    pattern=jnp.stack([seen[site][0] for site in patterns]),
    neurons=jnp.stack([seen[site][0] for site in neurons])
    if neurons
    else jnp.zeros((c.layers, length, 0)),
    top=top,
    share=share,
    next_share=next_share[..., 0],
    next_rank=1 + jnp.sum(ahead, axis=-1),
    influence=influence(decoder, params, tokens_1xT, losses)[:-1],
  )
