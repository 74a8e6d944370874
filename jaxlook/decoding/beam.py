"""Beam search, and the beam gain: a measure of missing lookahead.

A model with enough lookahead finds its most probable text by greedy decoding.
The beam gain is the log-probability of the beam search's result minus that of
greedy decoding.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.decoding import cache
from jaxlook.decoding.sampling import Generated, check_stop
from jaxlook.models import Decoder
from jaxlook.models.decoder import Params


class Beams(NamedTuple):
  """The W best hypotheses of each prompt, best first.

  Attributes:
    tokens: int32 [B, W, steps]; after a stop token only stop tokens.
    scores: log-probability / length ** length_penalty, [B, W]; -inf if there
      are fewer than W hypotheses.
    log_probs: nats, [B, W].
    lengths: number of tokens, including the stop token, int32 [B, W].
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

  At every step each unfinished hypothesis is extended by every token. Of the
  hypotheses that end with the stop token, the W with the best scores are kept
  in a separate set. Of the others, the W with the highest log-probability are
  extended further. At the end both sets are ranked together. A width of V **
  steps is an exhaustive search.

  Args:
    decoder: the model under any variant.
    params: parameters of one seed; use `jax.vmap` for several seeds.
    prompts: int [B, P]; pad shorter ones at the end with any token.
    steps: largest number of tokens to add.
    width: number W of hypotheses to keep.
    lengths: lengths of the prompts, int [B]; P by default.
    stop: the token that ends a sequence; None if no token does.
    length_penalty: the log-probability is divided by the length to this power;
      0 ranks by log-probability, 1 by its mean over tokens.
    cached: see `generate`.

  Returns:
    The hypotheses.

  Raises:
    ValueError: the width or penalty is out of range; see also `generate`.
  """
  check_stop(decoder, stop)
  if width < 1:
    raise ValueError(f"width must be at least 1, not {width}")
  if length_penalty < 0.0:
    raise ValueError(f"length_penalty must be at least 0, not {length_penalty}")
  prompts, lengths = cache.checked_prompts(
    decoder.config, prompts, lengths, steps
  )
  reader = cache.reader(decoder, cached)
  return _search(
    *(reader, steps, width, stop, length_penalty), params, prompts, lengths
  )


def beam_gain(beams: Beams, greedy: Generated) -> jax.Array:
  """How much more probable beam search's result is than greedy decoding's.

  Args:
    beams: from `beam_search`, with the same steps and stop token.
    greedy: from `generate` with `GREEDY`.

  Returns:
    Log-probability of the best hypothesis minus that of greedy decoding, nats,
    [B]. It is below 0 if the search dropped the greedy continuation.
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
  impossible = jnp.full((batch, width), -jnp.inf, logits.dtype)
  # The W copies of a prompt are the same hypothesis, so only one is live.
  live = _Live(tokens, impossible.at[:, 0].set(0.0))
  done = Beams(
    tokens, impossible, impossible, jnp.zeros_like(rows.reshape(batch, -1))
  )

  def extend(step, logits, live, done):
    """Adds one token; returns hypotheses and the rows that they extend."""
    vocab = logits.shape[-1]
    next_log_probs = jax.nn.log_softmax(logits).reshape(batch, width, vocab)
    total = live.log_probs[..., None] + next_log_probs
    if stop is not None:
      ended = live.tokens.at[:, :, step].set(stop)
      done = _best(
        width, done, _scored(ended, total[..., stop], step + 1, penalty)
      )
      total = total.at[..., stop].set(-jnp.inf)
    best, places = jax.lax.top_k(total.reshape(batch, -1), width)
    origin, token = places // vocab, places % vocab
    tokens = jnp.take_along_axis(live.tokens, origin[..., None], axis=1)
    tokens = tokens.at[:, :, step].set(token)
    return _Live(tokens, best), done, origin

  def body(carry, step):
    logits, state, live, done = carry
    live, done, origin = extend(step, logits, live, done)
    rows = (origin + width * jnp.arange(batch)[:, None]).reshape(-1)
    latest = live.tokens[:, :, step].reshape(-1)
    logits, state = reader.read(params, reader.pick(state, rows), latest)
    return (logits, state, live, done), None

  (logits, _, live, done), _ = jax.lax.scan(
    body, (logits, state, live, done), jnp.arange(steps - 1)
  )
  live, done, _ = extend(steps - 1, logits, live, done)
  return _best(
    width, done, _scored(live.tokens, live.log_probs, steps, penalty)
  )


def _scored(
  tokens: jax.Array, log_probs: jax.Array, length: int, penalty: float
) -> Beams:
  """Scores hypotheses of one length."""
  lengths = jnp.full(log_probs.shape, length)
  return Beams(tokens, log_probs / lengths**penalty, log_probs, lengths)


def _best(width: int, one: Beams, other: Beams) -> Beams:
  """Merges two sets and keeps the best, best first; ties keep their order."""
  both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), one, other)
  _, places = jax.lax.top_k(both.scores, width)
  return jax.tree.map(
    lambda x: jnp.take_along_axis(
      x, places.reshape(*places.shape, *(1,) * (x.ndim - 2)), axis=1
    ),
    both,
  )
