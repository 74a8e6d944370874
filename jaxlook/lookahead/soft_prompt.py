"""A learned soft prompt that makes a frozen model predict from one state.

The prompt is M vectors that replace the residual stream of M tokens at the
input of block 0. The state was read at one position of a text. It replaces the
stream at the last prompt position, at the layer that it was read from. The
model then predicts a token there, and one after each token that it is fed. So
its predictions use the state but not the text before it.

All functions take the parameters of one seed. The layer may be traced, so that
one program serves all layers. `future_lens` chooses the states and compares the
predictions with controls.

Source: Pal et al. (2023), "Future Lens", arXiv 2311.04897, section 3.3, for the
learned prompt; Lester et al. (2021), arXiv 2104.08691, for prompt tuning.
"""

import dataclasses
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
"""The layer number that means: no transplant."""

_ROWS = 256  # States decoded at a time; bounds the memory for the logits.


def prompt_from_text(
  decoder: Decoder, params: Params, tokens: jax.Array
) -> jax.Array:
  """The prompt that is equivalent to a text: its stream into block 0.

  Args:
    decoder: the model.
    params: its parameters.
    tokens: integer [M].

  Returns:
    [M, D]. With it and without a transplant, the model predicts what it
    predicts after this text.
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
  """The model's logits after a prompt that ends in a transplanted state.

  Args:
    decoder: the model. It runs as `forward_only(decoder)`, so the gradient to
      the prompt is that of the function, whatever the variant cuts.
    params: its parameters.
    prompt: float [M, D], M at least 1; replaces token and position embeddings.
    layer: the layer (see `residual_site`) at which the states replace the
      stream at the last prompt position; `NO_LAYER` for no transplant. May be
      traced.
    states: float [B, D].
    tokens: inputs after the prompt, integer [B, T]; T may be 0.

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


@dataclasses.dataclass(frozen=True)
class AdamSettings:
  """How `minimise` optimises.

  Attributes:
    steps: number of steps, at least 1.
    batch_size: rows of each step, at least 1.
    learning_rate: at the first step; positive. It falls to 0 along a cosine.

  Raises:
    ValueError: a field is out of range; the message names it.
  """

  steps: int
  batch_size: int
  learning_rate: float

  def __post_init__(self):
    """Refuses settings that cannot be used."""
    for name in ("steps", "batch_size"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, not {getattr(self, name)}"
        )
    if not self.learning_rate > 0.0:
      raise ValueError(
        f"learning_rate must be positive, not {self.learning_rate}"
      )


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
  adam: AdamSettings,
) -> jax.Array:
  """Learns a prompt after which the model predicts the tokens that follow.

  Minimises the mean cross-entropy of the tokens at `offsets`. The model
  predicts each of them from the state and the text's own tokens before it
  (teacher forcing).

  Args:
    key: a PRNG key, consumed.
    decoder: the model; frozen.
    params: its parameters.
    start: the initial prompt, float [M, D].
    layer: see `transplanted_logits`.
    states: float [n, D].
    tokens: the 1st, 2nd, ... token after that of each state, integer [n, K].
    offsets: which of these tokens to learn, in 1..K.
    adam: how to optimise.

  Returns:
    The prompt, float [M, D].

  Raises:
    ValueError: an offset is out of range, or see `minimise` and
      `transplanted_logits`.

  Source: Pal et al. (2023), section 3.3. Their target is the model's own
  distribution at the later position. Ours is the text's token, as for the
  linear maps that the prompt is compared with.
  """
  chex.assert_shape(tokens, (states.shape[0], None))
  known = tokens.shape[1]
  if not offsets or not all(1 <= tau <= known for tau in offsets):
    raise ValueError(f"offsets must lie in 1..{known}, not {tuple(offsets)}")
  # The last token to predict is not an input.
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

  return minimise(nats, start, key, rows=len(states), adam=adam)


def decode(
  decoder: Decoder,
  params: Params,
  prompt: jax.Array,
  layer: jax.Array | int,
  states: jax.Array,
  horizon: int,
  fed: jax.Array | None = None,
) -> jax.Array:
  """The tokens that the model predicts next, one after the other.

  Args:
    decoder: the model.
    params: its parameters.
    prompt: float [M, D].
    layer: see `transplanted_logits`.
    states: float [n, D].
    horizon: how many tokens to decode, at least 1.
    fed: input tokens, integer [n, horizon], of which the last is not needed;
      None feeds back the decoded tokens.

  Returns:
    The most likely tokens, integer [n, horizon].

  Raises:
    ValueError: `horizon` is too small, or see `transplanted_logits`.
  """
  if horizon < 1:
    raise ValueError(f"horizon must be at least 1, not {horizon}")

  def guesses(state: jax.Array, tokens: jax.Array) -> jax.Array:
    logits = transplanted_logits(
      decoder, params, prompt, layer, state[None], tokens[None, :-1]
    )
    return jnp.argmax(logits[0], axis=-1).astype(jnp.int32)

  def greedy(state: jax.Array) -> jax.Array:
    # Token k depends only on those before it, so each pass fixes one more.
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
  adam: AdamSettings,
) -> Any:
  """Minimises a mean over rows with Adam on random batches.

  Args:
    loss: maps the parameters and the indices of a batch's rows, integer
      [batch_size], to a scalar.
    start: the initial parameters.
    key: a PRNG key, consumed.
    rows: number of rows, at least 1; batches are drawn with replacement.
    adam: how to optimise.

  Returns:
    The parameters after the last step.

  Raises:
    ValueError: there are no rows.
  """
  if rows < 1:
    raise ValueError(f"rows must be at least 1, not {rows}")
  optimizer = optax.adam(
    optax.cosine_decay_schedule(adam.learning_rate, adam.steps)
  )

  def step(state: Any, step_key: jax.Array) -> tuple[Any, None]:
    params, moments = state
    picks = jax.random.randint(step_key, (adam.batch_size,), 0, rows)
    gradient = jax.grad(loss)(params, picks)
    updates, moments = optimizer.update(gradient, moments)
    return (optax.apply_updates(params, updates), moments), None

  state = (start, optimizer.init(start))
  (params, _), _ = jax.lax.scan(step, state, jax.random.split(key, adam.steps))
  return params
