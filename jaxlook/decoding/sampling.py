"""Greedy decoding and sampling by temperature, top-k and top-p."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.decoding import cache
from jaxlook.errors import SettingError
from jaxlook.keys import make_key
from jaxlook.models import Decoder
from jaxlook.models.decoder import Params
from jaxlook.models.sites import NO_EDITS, Edits


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How the next token is drawn; filters apply in the order of the fields.

  Attributes:
    temperature: divides the logits; 0 takes the most likely token.
    top_k: keeps this many of the most likely tokens, and tokens that tie with
      the last of them; None for all.
    top_p: keeps the fewest of the most likely tokens whose probabilities sum
      to at least this, up to 1e-6; of tokens that tie, the one with the lower
      id is kept; 1 for all. Source: Holtzman et al. (2019), arXiv
      1904.09751.

  Raises:
    SettingError: a field is out of range.
  """

  temperature: float = 1.0
  top_k: int | None = None
  top_p: float = 1.0

  def __post_init__(self):
    """Checks the ranges of the fields."""
    if not self.temperature >= 0.0:
      raise SettingError(
        "temperature", f"must be at least 0, not {self.temperature}"
      )
    if self.top_k is not None and self.top_k < 1:
      raise SettingError("top_k", f"must be at least 1, not {self.top_k}")
    if not 0.0 < self.top_p <= 1.0:
      raise SettingError("top_p", f"must lie in (0, 1], not {self.top_p}")


# Of a sum of probabilities.
_ROUNDING = 1e-6

GREEDY = Sampling(temperature=0.0)


class Generated(NamedTuple):
  """Tokens that were added to prompts.

  Attributes:
    tokens: int32 [B, steps]; after a stop token only stop tokens.
    log_probs: log-probability of each token under the model (temperature 1, no
      filters), nats, [B, steps]; 0 after a stop token.
    lengths: number of tokens added, including the stop token, int32 [B].
  """

  tokens: jax.Array
  log_probs: jax.Array
  lengths: jax.Array


def generate(
  decoder: Decoder,
  params: Params,
  prompts: jax.Array,
  steps: int,
  *,
  lengths: jax.Array | None = None,
  sampling: Sampling = GREEDY,
  key: jax.Array | None = None,
  stop: int | None = None,
  cached: bool = True,
  edits: Edits = NO_EDITS,
) -> Generated:
  """Continues prompts.

  Args:
    decoder: the model under any variant.
    params: parameters of one seed; use `jax.vmap` for several seeds.
    prompts: int [B, P]; pad shorter ones at the end with any token.
    steps: tokens to add.
    lengths: lengths of the prompts, int [B], each 1..P; P by default.
    sampling: how a token is drawn.
    key: a PRNG key, consumed; needed unless the temperature is 0.
    stop: the token that ends a sequence; None if no token does.
    cached: whether to keep keys and values instead of computing them again for
      every token. Both give the same tokens, unless rounding breaks a tie.
    edits: functions by site that change activations [B, T, ...] while prompts
      are read, T >= P. They must not change positions P and later. Later
      tokens see the changed activations. A call with edits is not compiled:
      wrap it in `jax.jit`. Edits cannot be combined with `lengths`.

  Returns:
    The tokens with their log-probabilities.

  Raises:
    ValueError: a key is missing; `cached` is true for a variant that changes
      the forward pass; `stop` is not a token; or edits are combined with
      `lengths`. See also `jaxlook.decoding.cache.checked_prompts`.
  """
  check_stop(decoder, stop)
  if edits and lengths is not None:
    # New tokens after a shorter prompt would be at positions that edits change.
    raise ValueError("edits need prompts of one length; omit lengths")
  if key is None:
    if sampling.temperature > 0.0:
      raise ValueError("key must be given if temperature is above 0")
    key = make_key(0)
  prompts, lengths = cache.checked_prompts(
    decoder.config, prompts, lengths, steps
  )
  reader = cache.reader(decoder, cached, edits)
  # Edits are new functions in every call, so a compiled program could not be
  # reused.
  go = _generate if edits else _compiled
  return go(reader, sampling, steps, stop, params, prompts, lengths, key)


def _generate(
  reader: cache.Reader,
  sampling: Sampling,
  steps: int,
  stop: int | None,
  params: Params,
  prompts: jax.Array,
  lengths: jax.Array,
  key: jax.Array,
) -> Generated:
  logits, state = reader.start(params, prompts, lengths, steps)
  going = jnp.ones(len(prompts), bool)

  def draw(key, logits, going):
    token = _draw(key, logits, sampling)
    log_prob = jnp.take_along_axis(
      jax.nn.log_softmax(logits), token[:, None], axis=-1
    )[:, 0]
    if stop is None:
      return token, log_prob, going
    token = jnp.where(going, token, stop)
    log_prob = jnp.where(going, log_prob, 0.0)
    return token, log_prob, going & (token != stop)

  def body(carry, key):
    logits, state, going = carry
    token, log_prob, still = draw(key, logits, going)
    logits, state = reader.read(params, state, token)
    return (logits, state, still), (token, log_prob, going)

  keys = jax.random.split(key, steps)
  # The last token is drawn but never read.
  (logits, _, going), rows = jax.lax.scan(
    body, (logits, state, going), keys[:-1]
  )
  token, log_prob, _ = draw(keys[-1], logits, going)
  tokens, log_probs, alive = (
    jnp.concatenate([many, one[None]]).T
    for many, one in zip(rows, (token, log_prob, going), strict=True)
  )
  return Generated(tokens, log_probs, jnp.sum(alive, axis=1))


_compiled = jax.jit(_generate, static_argnums=(0, 1, 2, 3))


def filtered(logits: jax.Array, sampling: Sampling) -> jax.Array:
  """Returns log-probabilities after the filters; -inf for removed tokens.

  Args:
    logits: [..., V].
    sampling: its temperature must be above 0.

  Returns:
    [..., V], normalised.
  """
  # The largest logit becomes 0, so that no temperature makes it infinite.
  logits = logits - jnp.max(logits, axis=-1, keepdims=True)
  smallest = float(jnp.finfo(logits.dtype).tiny)
  logits = logits / max(sampling.temperature, smallest)
  if sampling.top_k is not None:
    descending = -jnp.sort(-logits, axis=-1)
    place = min(sampling.top_k, logits.shape[-1]) - 1
    least = descending[..., place : place + 1]
    logits = jnp.where(logits >= least, logits, -jnp.inf)
  if sampling.top_p < 1.0:
    order = jnp.argsort(-logits, axis=-1, stable=True)
    shares = jax.nn.softmax(
      jnp.take_along_axis(logits, order, axis=-1), axis=-1
    )
    before = jnp.cumsum(shares, axis=-1) - shares
    # `before` is 0 for the most likely token, so that one is always kept.
    # Without the tolerance, rounding of the sum could keep one token more.
    kept = before < max(sampling.top_p - _ROUNDING, smallest)
    place = jnp.argsort(order, axis=-1)
    kept = jnp.take_along_axis(kept, place, axis=-1)
    logits = jnp.where(kept, logits, -jnp.inf)
  return jax.nn.log_softmax(logits, axis=-1)


def _draw(key: jax.Array, logits: jax.Array, sampling: Sampling) -> jax.Array:
  if sampling.temperature == 0.0:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  chosen = jax.random.categorical(key, filtered(logits, sampling))
  return chosen.astype(jnp.int32)


def check_stop(decoder: Decoder, stop: int | None) -> None:
  """Raises ValueError if `stop` is not a token."""
  size = decoder.config.vocab_size or 0
  if stop is not None and not 0 <= stop < size:
    raise ValueError(f"stop must lie in 0..{size - 1}, not {stop}")
