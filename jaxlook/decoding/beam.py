"""Beam search, and how much it gains: what a model fails to plan.

A model that looks ahead far enough finds its best sentence word by word. The
beam gain is the log-probability that a search finds above greedy decoding's.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.decoding import cache
from jaxlook.decoding.sampling import Generated, check_stop, full_lengths
from jaxlook.models import Decoder
from jaxlook.models.decoder import Params


class Beams(NamedTuple):
  """The best hypotheses of each prompt, W of them, best first.

  Attributes:
    tokens: int32 [B, W, steps]; after a stop token only stop tokens.
    scores: log-probability over length ** length_penalty, [B, W]; -inf where
      there are fewer than W hypotheses.
    log_probs: nats, [B, W].
    lengths: tokens, the stop token included, int32 [B, W].
  """

  tokens: jax.Array
  scores: jax.Array
  log_probs: jax.Array
  lengths: jax.Array


def beam_search(
  decoder: Decoder,
  params: Params,
  prompts: jax.Array,
  steps: int,
  *,
  width: int,
  lengths: jax.Array | None = None,
  stop: int | None = None,
  length_penalty: float = 0.0,
  cached: bool = True,
) -> Beams:
  """Searches for likely continuations.

  At every step each unfinished hypothesis is extended by every token. Those
  that end with the stop token are kept apart, the W best by score; of the
  others the W best by log-probability go on. At the end both are ranked
  together, so that a width of V ** steps searches everything.

  Args:
    decoder: the model under any variant.
    params: its parameters, of one seed; `jax.vmap` over them for several.
    prompts: int [B, P]; shorter ones are padded at the end with anything.
    steps: the most tokens to add.
    width: hypotheses W to keep.
    lengths: of the prompts, int [B]; all of P by default.
    stop: the token that ends a sequence; None for none.
    length_penalty: exponent of the length that divides the log-probability;
      0 ranks by log-probability, 1 by its mean over tokens.
    cached: as of `generate`.

  Returns:
    The hypotheses.

  Raises:
    ValueError: the width or penalty is out of range, or as `generate`.
  """
  cache.check(decoder.config, prompts, steps)
  check_stop(decoder, stop)
  if width < 1:
    raise ValueError(f"width must be at least 1, not {width}")
  if length_penalty < 0.0:
    raise ValueError(f"length_penalty must be at least 0, not {length_penalty}")
  reader = cache.reader(decoder, cached)
  lengths = full_lengths(prompts, lengths)
  return _search(
    *(reader, steps, width, stop, length_penalty), params, prompts, lengths
  )


def beam_gain(beams: Beams, greedy: Generated) -> jax.Array:
  """What the search found above greedy decoding of the same steps and stop.

  Args:
    beams: from `beam_search`.
    greedy: from `generate` with `GREEDY`.

  Returns:
    Log-probability of the best hypothesis minus greedy's, nats, [B]. Below 0
    where the search dropped greedy's continuation on its way.
  """
  best = jnp.max(beams.log_probs, axis=1)
  return best - jnp.sum(greedy.log_probs, axis=1)


class _Live(NamedTuple):
  """Unfinished hypotheses: tokens [B, W, steps], log-probabilities [B, W]."""

  tokens: jax.Array
  log_probs: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _search(
  reader: cache.Reader,
  steps: int,
  width: int,
  stop: int | None,
  penalty: float,
  params: Params,
  prompts: jax.Array,
  lengths: jax.Array,
) -> Beams:
  batch = len(prompts)
  logits, state = reader.start(params, prompts, lengths, steps)
  rows = jnp.repeat(jnp.arange(batch), width)
  logits, state = logits[rows], reader.pick(state, rows)
  tokens = jnp.full((batch, width, steps), 0 if stop is None else stop)
  nothing = jnp.full((batch, width), -jnp.inf, logits.dtype)
  # All copies of a prompt are the same hypothesis, so one of them is live.
  live = _Live(tokens, nothing.at[:, 0].set(0.0))
  done = Beams(
    tokens, nothing, nothing, jnp.zeros_like(rows.reshape(batch, -1))
  )

  def extended(step, logits, live, done):
    """The hypotheses after one more token, and which row each came from."""
    vocab = logits.shape[-1]
    each = jax.nn.log_softmax(logits).reshape(batch, width, vocab)
    total = live.log_probs[..., None] + each
    if stop is not None:
      ended = live.tokens.at[:, :, step].set(stop)
      done = _best(
        width, done, _scored(ended, total[..., stop], step + 1, penalty)
      )
      total = total.at[..., stop].set(-jnp.inf)
    found, places = jax.lax.top_k(total.reshape(batch, -1), width)
    origin, token = places // vocab, places % vocab
    tokens = jnp.take_along_axis(live.tokens, origin[..., None], axis=1)
    tokens = tokens.at[:, :, step].set(token)
    return _Live(tokens, found), done, origin

  def body(carry, step):
    logits, state, live, done = carry
    live, done, origin = extended(step, logits, live, done)
    rows = (origin + width * jnp.arange(batch)[:, None]).reshape(-1)
    latest = live.tokens[:, :, step].reshape(-1)
    logits, state = reader.read(params, reader.pick(state, rows), latest)
    return (logits, state, live, done), None

  (logits, _, live, done), _ = jax.lax.scan(
    body, (logits, state, live, done), jnp.arange(steps - 1)
  )
  live, done, _ = extended(steps - 1, logits, live, done)
  return _best(
    width, done, _scored(live.tokens, live.log_probs, steps, penalty)
  )


def _scored(
  tokens: jax.Array, log_probs: jax.Array, length: int, penalty: float
) -> Beams:
  """Hypotheses of one length with their scores."""
  lengths = jnp.full(log_probs.shape, length)
  return Beams(tokens, log_probs / lengths**penalty, log_probs, lengths)


def _best(width: int, one: Beams, other: Beams) -> Beams:
  """The best of two sets of hypotheses, best first; of equals the earlier."""
  both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), one, other)
  _, places = jax.lax.top_k(both.scores, width)
  return jax.tree.map(
    lambda x: jnp.take_along_axis(
      x, places.reshape(*places.shape, *(1,) * (x.ndim - 2)), axis=1
    ),
    both,
  )
