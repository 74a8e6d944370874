"""A learned soft prompt that makes a frozen model say what one state holds.

The prompt is M vectors that stand where the residual stream of M tokens would
enter block 0. The state, read at some position of a text, replaces the stream
at the last prompt position at the layer that it was read at. What the model
then predicts there, and after each token fed behind it, is what it can make of
the state without the text that led to it.

All functions take the parameters of one seed, and the layer as a number that
may be traced, so that one program serves all layers. Which states, and what the
predictions are held against, is in `future_lens`.

Source: Pal et al. (2023), "Future Lens", arXiv 2311.04897, section 3.3, for the
learned prompt; Lester et al. (2021), arXiv 2104.08691, for prompt tuning.
"""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from jaxlook import models
from jaxlook.interventions.forward import capture, forward_only
from jaxlook.models import Decoder, residual_site
from jaxlook.models.decoder import Params

NO_LAYER = -1
"""The layer that stands for no transplant at all."""

_ROWS = 256  # Decoded at a time; bounds the memory for the logits.


def prompt_from_text(
  decoder: Decoder, params: Params, tokens: jax.Array
) -> jax.Array:
  """The prompt that stands for a text: its stream into block 0.

  Args:
    decoder: the model.
    params: its parameters.
    tokens: integer [M].

  Returns:
    [M, D]; with it, and without a transplant, the model does what it does
    behind this text.
  """
  chex.assert_rank(tokens, 1)
  site = residual_site(decoder.config, 0)
  return capture(decoder, params, tokens[None], [site])[1][site][0]


def transplanted_logits(
  decoder: Decoder,
  params: Params,
  prompt: jax.Array,
  layer: jax.Array | int,
  states: jax.Array,
  tokens: jax.Array,
) -> jax.Array:
  """The model's logits behind a prompt that ends in a foreign state.

  Args:
    decoder: the model; runs as `forward_only(decoder)`, so that the gradient
      to the prompt is that of the function, whatever the variant cuts.
    params: its parameters.
    prompt: float [M, D], M at least 1; takes the place of token and position
      embeddings.
    layer: where the states replace the stream at the last prompt position, as
      of `residual_site`; `NO_LAYER` for no transplant. May be traced.
    states: float [B, D].
    tokens: to feed behind the prompt, integer [B, T]; T may be 0.

  Returns:
    Logits [B, 1 + T, V]: at the last prompt position, then at each token.

  Raises:
    ValueError: M + T exceeds the model's `max_length`.
    AssertionError: the shapes do not fit.
  """
  width = decoder.config.width
  chex.assert_shape(prompt, (None, width))
  chex.assert_shape(states, (tokens.shape[0], width))
  size = prompt.shape[0]
  last = size - 1

  def editing(site_layer: int) -> Callable[[jax.Array], jax.Array]:
    def edit(x_BxTxD: jax.Array) -> jax.Array:
      if site_layer == 0:
        placed = jnp.broadcast_to(
          prompt[None], (x_BxTxD.shape[0], *prompt.shape)
        )
        x_BxTxD = x_BxTxD.at[:, :size].set(placed)
      now_BxD = jnp.where(layer == site_layer, states, x_BxTxD[:, last])
      return x_BxTxD.at[:, last].set(now_BxD)

    return edit

  edits = {
    residual_site(decoder.config, at): editing(at)
    for at in range(decoder.config.layers + 1)
  }
  unread = jnp.zeros((tokens.shape[0], size), tokens.dtype)
  inputs = jnp.concatenate([unread, tokens], axis=1)
  logits = models.apply(forward_only(decoder), params, inputs, edits=edits)
  return logits[:, last:]


def train_prompt(
  key: jax.Array,
  decoder: Decoder,
  params: Params,
  start: jax.Array,
  layer: jax.Array | int,
  states: jax.Array,
  tokens: jax.Array,
  *,
  offsets: Sequence[int] = (2,),
  steps: int,
  batch_size: int,
  learning_rate: float,
) -> jax.Array:
  """Learns a prompt behind which the model says the tokens that follow.

  Minimises the mean cross-entropy of the tokens at `offsets`, each predicted
  from the state and the text's own tokens before it (teacher forcing).

  Args:
    key: a PRNG key, consumed.
    decoder: the model; frozen.
    params: its parameters.
    start: the prompt to begin with, float [M, D].
    layer: as of `transplanted_logits`.
    states: float [n, D].
    tokens: the 1st, 2nd, ... token after each state's, integer [n, K].
    offsets: which of them are learned, in 1..K.
    steps: as of `minimise`.
    batch_size: as of `minimise`.
    learning_rate: as of `minimise`.

  Returns:
    The prompt, float [M, D].

  Raises:
    ValueError: an offset is out of range, or as `minimise` and
    `transplanted_logits`.

  Source: Pal et al. (2023), section 3.3. Differs from it in the target: theirs
  is the model's own distribution there, this is the text's token, as for the
  linear maps that the prompt is compared with.
  """
  chex.assert_shape(tokens, (states.shape[0], None))
  known = tokens.shape[1]
  if not offsets or not all(1 <= tau <= known for tau in offsets):
    raise ValueError(f"offsets must lie in 1..{known}, not {tuple(offsets)}")
  # The last token to predict need not be fed.
  fed_nxT = tokens[:, : max(offsets) - 1]
  learned = jnp.array([tau - 1 for tau in offsets])

  def nats(prompt: jax.Array, picks: jax.Array) -> jax.Array:
    logits_BxTxV = transplanted_logits(
      decoder, params, prompt, layer, states[picks], fed_nxT[picks]
    )
    return jnp.mean(
      optax.softmax_cross_entropy_with_integer_labels(
        logits_BxTxV[:, learned], tokens[picks][:, learned]
      )
    )

  return minimise(
    nats,
    start,
    key,
    rows=len(states),
    steps=steps,
    batch_size=batch_size,
    learning_rate=learning_rate,
  )


def decode(
  decoder: Decoder,
  params: Params,
  prompt: jax.Array,
  layer: jax.Array | int,
  states: jax.Array,
  horizon: int,
  fed: jax.Array | None = None,
) -> jax.Array:
  """The tokens that the model says next, one after the other.

  Args:
    decoder: the model.
    params: its parameters.
    prompt: float [M, D].
    layer: as of `transplanted_logits`.
    states: float [n, D].
    horizon: how many tokens to decode, at least 1.
    fed: tokens to feed, integer [n, horizon], of which the last is not needed;
      None feeds back what is decoded.

  Returns:
    The most likely tokens, integer [n, horizon].

  Raises:
    ValueError: `horizon` is too small, or as `transplanted_logits`.
  """
  if horizon < 1:
    raise ValueError(f"horizon must be at least 1, not {horizon}")

  def guesses(state: jax.Array, tokens: jax.Array) -> jax.Array:
    logits = transplanted_logits(
      decoder, params, prompt, layer, state[None], tokens[None, :-1]
    )
    return jnp.argmax(logits[0], axis=-1).astype(jnp.int32)

  def greedy(state: jax.Array) -> jax.Array:
    # Token k depends on those before it alone, so each pass settles one more.
    none = jnp.zeros((horizon,), jnp.int32)
    return jax.lax.fori_loop(0, horizon, lambda _, t: guesses(state, t), none)

  if fed is None:
    return jax.lax.map(greedy, states, batch_size=_ROWS)
  chex.assert_shape(fed, (states.shape[0], horizon))
  return jax.lax.map(
    lambda pair: guesses(*pair), (states, fed), batch_size=_ROWS
  )


def minimise(
  loss: Callable[[Any, jax.Array], jax.Array],
  start: Any,
  key: jax.Array,
  *,
  rows: int,
  steps: int,
  batch_size: int,
  learning_rate: float,
) -> Any:
  """Minimises a mean over rows by Adam on random batches of them.

  Args:
    loss: of the parameters and the indices of a batch's rows, integer
      [batch_size]; a scalar.
    start: the parameters to begin with.
    key: a PRNG key, consumed.
    rows: number of rows; drawn with replacement.
    steps: of the optimiser, at least 1.
    batch_size: rows a step, at least 1.
    learning_rate: the first one, per step; falls to 0 along a cosine.

  Returns:
    The parameters after the last step.

  Raises:
    ValueError: a setting is out of range.
  """
  for name, count in (
    ("rows", rows),
    ("steps", steps),
    ("batch_size", batch_size),
  ):
    if count < 1:
      raise ValueError(f"{name} must be at least 1, not {count}")
  if not learning_rate > 0.0:
    raise ValueError(f"learning_rate must be positive, not {learning_rate}")
  adam = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

  def step(state: Any, step_key: jax.Array) -> tuple[Any, None]:
    params, moments = state
    picks = jax.random.randint(step_key, (batch_size,), 0, rows)
    gradient = jax.grad(loss)(params, picks)
    updates, moments = adam.update(gradient, moments)
    return (optax.apply_updates(params, updates), moments), None

  state = (start, adam.init(start))
  (params, _), _ = jax.lax.scan(step, state, jax.random.split(key, steps))
  return params
