"""What the future lens decodes: pairs of a state and the tokens after it.

A pair is a sequence and a position n in it: the residual stream there at every
layer, and the tokens n + 1 .. n + K. `prepare_pairs` runs a model and collects
them. `skip_bigram` predicts the tokens without a model.
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.errors import SettingError
from jaxlook.interventions.forward import capture
from jaxlook.lookahead.soft_prompt import AdamSettings
from jaxlook.models import Decoder, residual_sites
from jaxlook.models.decoder import Params
from jaxlook.numerals import counted
from jaxlook.probing import linear
from jaxlook.text.windows import stretch_numbers

_WINDOWS = 32  # Sequences run through the model at a time.


@dataclasses.dataclass(frozen=True)
class LensSetup:
  """How the lens is fitted.

  Attributes:
    sequences: the most sequences to fit on, and to score on.
    fit_positions: pairs from each sequence to fit on.
    score_positions: pairs from each sequence to score on; divides
      `fit_positions`.
    horizon: the largest tau, K.
    prompt_length: vectors of a prompt, M.
    offsets: the tau that prompts are trained for.
    prompt_steps: steps of Adam for a prompt.
    prompt_batch: pairs of each of these steps.
    prompt_rate: learning rate of the first of these steps.
    map_steps: steps of Adam for the map to logits.
    map_batch: pairs of each of these steps.
    map_rate: learning rate of the first of these steps.
    penalty: of the ridge regression; see `jaxlook.probing.linear.fit_ridge`.

  Raises:
    SettingError: a field is out of range; the message names it.
  """

  sequences: int = 1024
  fit_positions: int = 8
  score_positions: int = 2
  horizon: int = 3
  prompt_length: int = 10
  offsets: tuple[int, ...] = (2,)
  prompt_steps: int = 150
  prompt_batch: int = 64
  prompt_rate: float = 0.03
  map_steps: int = 300
  map_batch: int = 512
  map_rate: float = 0.03
  penalty: float = linear.PENALTY

  def __post_init__(self):
    """Refuses what cannot be fitted; other fields are checked in use."""
    if self.sequences < 2:
      raise SettingError(
        "sequences", f"must be at least 2, not {self.sequences}"
      )
    for field in ("score_positions", "horizon", "prompt_length"):
      if getattr(self, field) < 1:
        raise SettingError(
          field, f"must be at least 1, not {getattr(self, field)}"
        )
    if self.fit_positions < 1 or self.fit_positions % self.score_positions:
      raise SettingError(
        "fit_positions",
        f"must be a multiple of score_positions="
        f"{self.score_positions}, not {self.fit_positions}",
      )
    if not self.offsets or not all(
      1 <= tau <= self.horizon for tau in self.offsets
    ):
      raise SettingError(
        "offsets", f"must lie in 1..{self.horizon}, not {self.offsets}"
      )

  @property
  def prompt_adam(self) -> AdamSettings:
    """How prompts are trained."""
    return AdamSettings(self.prompt_steps, self.prompt_batch, self.prompt_rate)

  @property
  def map_adam(self) -> AdamSettings:
    """How the map to logits is fitted."""
    return AdamSettings(self.map_steps, self.map_batch, self.map_rate)

  @property
  def least_length(self) -> int:
    """The shortest sequence length N with room for pairs, prompt and tokens."""
    longest = max(self.fit_positions, self.prompt_length)
    return longest + self.horizon - 1


class StatePairs(NamedTuple):
  """States and tokens of n pairs (sequence, position), with K = horizon.

  Attributes:
    states: the residual stream at the position, by layer, [n, L + 1, D].
    later: the stream after the last layer, tau - 1 positions later, [n, K, D].
    current: the token at the position, [n].
    tokens: the text's token tau positions later, [n, K].
    predicted: the token that the model predicts there, reading the text, [n,
      K].
  """

  states: jax.Array
  later: jax.Array
  current: jax.Array
  tokens: jax.Array
  predicted: jax.Array


class LensPairs(NamedTuple):
  """The pairs of one model; see `prepare_pairs`.

  Attributes:
    fitted: pairs to fit on.
    chosen: some of these, to choose a layer by.
    scored: pairs of other sequences, to score on.
  """

  fitted: StatePairs
  chosen: StatePairs
  scored: StatePairs


def collect_pairs(
  key: jax.Array,
  decoder: Decoder,
  params: Params,
  windows: jax.Array,
  positions: int,
  horizon: int,
) -> StatePairs:
  """Runs the model on sequences and keeps some positions of each.

  Args:
    key: a PRNG key, consumed; draws the positions.
    decoder: the model.
    params: its parameters.
    windows: integer [W, N + 1].
    positions: how many positions of each sequence, without replacement.
    horizon: the largest tau, K.

  Returns:
    The pairs, sequence after sequence; n = W * positions.

  Raises:
    ValueError: too few positions have K tokens after them.
  """
  chex.assert_rank(windows, 2)
  room = windows.shape[1] - horizon
  if not 1 <= positions <= room:
    raise ValueError(
      f"positions must lie in 1..{room} for tau up to {horizon} in windows of"
      f" {counted(windows.shape[1], 'token')}, not {positions}"
    )
  config = decoder.config
  sites = residual_sites(config)
  orders = jax.vmap(lambda k: jax.random.permutation(k, room))(
    jax.random.split(key, windows.shape[0])
  )

  def one(pair: tuple[jax.Array, jax.Array]) -> StatePairs:
    window, at = pair
    logits, seen = capture(decoder, params, window[None, :-1], sites)
    then = at[:, None] + jnp.arange(horizon)[None]
    predicted = jnp.argmax(logits[0], axis=-1).astype(jnp.int32)
    return StatePairs(
      states=jnp.stack([seen[site][0][at] for site in sites], axis=1),
      later=seen[sites[-1]][0][then],
      current=window[at],
      tokens=window[then + 1],
      predicted=predicted[then],
    )

  found = jax.lax.map(
    one, (windows, orders[:, :positions]), batch_size=_WINDOWS
  )
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)


def prepare_pairs(
  key: jax.Array,
  decoder: Decoder,
  params: Params,
  fit_on: jax.Array,
  score_on: jax.Array,
  setup: LensSetup,
) -> LensPairs:
  """Collects the pairs that all methods are fitted and scored on.

  Args:
    key: a PRNG key, consumed. With the same key all seeds have the same pairs.
    decoder: the model.
    params: parameters of one seed.
    fit_on: sequences to fit on, integer [W, N + 1].
    score_on: other sequences, to score on, integer [W, N + 1].
    setup: gives the positions of a sequence and the horizon.

  Returns:
    The pairs.

  Raises:
    ValueError: see `collect_pairs`.
  """
  fit_key, score_key = jax.random.split(key)
  horizon = setup.horizon
  fitted = collect_pairs(
    fit_key, decoder, params, fit_on, setup.fit_positions, horizon
  )
  every = setup.fit_positions // setup.score_positions
  return LensPairs(
    fitted,
    jax.tree.map(lambda x: x[::every], fitted),
    collect_pairs(
      score_key, decoder, params, score_on, setup.score_positions, horizon
    ),
  )


def other_states(states: jax.Array, positions: int) -> jax.Array:
  """Gives every pair the state of another sequence.

  Args:
    states: of n pairs, sequence after sequence, [n, ...].
    positions: pairs of each sequence; there must be at least 2 sequences.

  Returns:
    For each pair, the state of the sequence that is half of all sequences away.

  Raises:
    ValueError: there is only one sequence.
  """
  half = len(states) // positions // 2
  if half < 1:
    raise ValueError(
      f"two sequences are needed, not {len(states) // positions}"
    )
  return jnp.roll(states, half * positions, axis=0)


def skip_bigram(
  tokens: np.ndarray,
  offset: int,
  vocab_size: int,
  ends: np.ndarray | None = None,
) -> np.ndarray:
  """The token that most often stands `offset` tokens after each token.

  Args:
    tokens: token ids below V, integer [n].
    offset: the distance tau, at least 1 and smaller than n.
    vocab_size: V.
    ends: ends of documents, ascending integers [S]; pairs across them are not
      counted. None for one document.

  Returns:
    Integer [V]: for each token, the commonest one `offset` later (the smaller
    id on ties); the commonest token of all if no token follows.

  Raises:
    ValueError: `offset` is out of range.
  """
  if not 1 <= offset < len(tokens):
    raise ValueError(f"offset must lie in 1..{len(tokens) - 1}, not {offset}")
  ids = np.asarray(tokens, np.int64)
  pairs = ids[:-offset] * vocab_size + ids[offset:]
  if ends is not None:
    numbers = stretch_numbers(ends, 0, len(ids))
    pairs = pairs[numbers[:-offset] == numbers[offset:]]
  codes, counts = np.unique(pairs, return_counts=True)
  found = np.full(vocab_size, np.bincount(ids).argmax(), np.int32)
  # Later writes win: the highest count, then the smallest token.
  codes = codes[np.lexsort((-codes, counts))]
  found[codes // vocab_size] = codes % vocab_size
  return found
