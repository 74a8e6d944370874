"""The future lens: tokens beyond the next, decoded from one hidden state.

Token n + tau (tau = 1 is the next; Pal et al. write N = tau - 1) is decoded
from the residual stream at position n and layer l alone, by three methods:

| method | how |
| --- | --- |
| `HIDDEN` | ridge regression to the last layer's state at n + tau - 1, which \
the model's own final norm and head read |
| `LOGITS` | softmax regression to token n + tau |
| `LEARNED` | a soft prompt, trained for one tau, that ends in the state; see \
`soft_prompt` |

What they score must be held against what needs no state, or not this one:

| control | what it is |
| --- | --- |
| `FIXED` | a piece of text for a prompt, not trained, that ends in the state |
| `SHUFFLED` | the learned prompt, ending in a state of another sequence |
| `NO_STATE` | a prompt trained without any state |
| `FED`, `FED_NO_STATE` | `LEARNED` and `NO_STATE`, fed the text's tokens |
| `COUNTED` | the token most often tau after token n in the training text |
| `ON_TEXT` | the model itself, which reads the whole text: a ceiling |

and against the linear methods on a model that was not trained.

A score is a share of pairs (sequence, position). `accuracy` asks for the text's
token n + tau. `agreement` asks for the model's own most likely token at
n + tau - 1 of the real text. Pal et al. score against the continuation that the
model generates by itself from n on, which leaves the text for tau > 1 and is
easier to guess. Their published code (causal_methods/module.py) feeds the
tokens that it scores against behind the prompt. `FED` does so with the text,
and so knows the tokens n + 1 .. n + tau - 1, which the linear maps do not; it
is to be held against `FED_NO_STATE`. All other prompts are fed what they
decode. At the last layer the state in a prompt settles token n + 1 and nothing
more, for no later position reads it.

Everything is fitted on one set of sequences and scored on another. Functions
take one seed; seeds are `jax.vmap`'s work. Left out are scores by entropy or
top-k, and named entities.

Source: Pal et al. (2023), arXiv 2311.04897, sections 3 and 4.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlook import models
from jaxlook.lookahead import probes
from jaxlook.lookahead.interventions import capture
from jaxlook.lookahead.soft_prompt import (
  NOWHERE,
  decode,
  descend,
  prompt_of,
  train_prompt,
)
from jaxlook.models import Decoder, residual_site
from jaxlook.models.decoder import Params

HIDDEN = "linear to hidden"
LOGITS = "linear to logits"
LEARNED = "learned prompt"
FIXED = "fixed prompt"
SHUFFLED = "shuffled source"
NO_STATE = "no transplant"
FED = "learned prompt, text fed"
FED_NO_STATE = "no transplant, text fed"
COUNTED = "skip-bigram counts"
ON_TEXT = "the model on the text"
METHODS = (
  HIDDEN,
  LOGITS,
  LEARNED,
  FIXED,
  SHUFFLED,
  NO_STATE,
  FED,
  FED_NO_STATE,
  COUNTED,
  ON_TEXT,
)
"""All of them, in the order of the tables."""

_ROWS = 256  # Read at a time; bounds the memory for the logits.
_WINDOWS = 32  # Sequences run through the model at a time.


@dataclasses.dataclass(frozen=True)
class Setup:
  """How the lens is fitted.

  Attributes:
    sequences: at most so many to fit on, and as many to score on.
    fit_positions: pairs taken from each sequence to fit on.
    score_positions: pairs taken from each to score on; divides the former.
    horizon: the largest tau, K.
    prompt_length: M.
    offsets: the tau that prompts are trained for.
    prompt_steps: of Adam, for a prompt.
    prompt_batch: pairs a step.
    prompt_rate: the first learning rate of a prompt, per step.
    map_steps: of Adam, for the map to logits.
    map_batch: pairs a step.
    map_rate: the first learning rate of that map, per step.
    penalty: of the ridge regression; see `probes.fit_ridge`.

  Raises:
    ValueError: a field is out of range; the message names it.
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
  penalty: float = probes.PENALTY

  def __post_init__(self):
    """Refuses what cannot be fitted; the rest is refused where it is used."""
    if self.sequences < 2:
      raise ValueError(f"sequences must be at least 2, not {self.sequences}")
    for field in ("score_positions", "horizon", "prompt_length"):
      if getattr(self, field) < 1:
        raise ValueError(
          f"{field} must be at least 1, not {getattr(self, field)}"
        )
    if self.fit_positions < 1 or self.fit_positions % self.score_positions:
      raise ValueError(
        f"fit_positions must be a multiple of score_positions="
        f"{self.score_positions}, not {self.fit_positions}"
      )
    if not self.offsets or not all(
      1 <= tau <= self.horizon for tau in self.offsets
    ):
      raise ValueError(
        f"offsets must lie in 1..{self.horizon}, not {self.offsets}"
      )

  @property
  def least_length(self) -> int:
    """The shortest sequences, N, that hold the pairs, and prompt and tokens."""
    longest = max(self.fit_positions, self.prompt_length)
    return longest + self.horizon - 1


class Pairs(NamedTuple):
  """What a model makes of n pairs (sequence, position), K = horizon.

  Attributes:
    states: the residual stream at the position, by layer, [n, L + 1, D].
    later: the last layer's, tau - 1 positions later, [n, K, D].
    current: the token at the position, [n].
    tokens: the text's token tau later, [n, K].
    predicted: the model's most likely one, on the real text, [n, K].
  """

  states: jax.Array
  later: jax.Array
  current: jax.Array
  tokens: jax.Array
  predicted: jax.Array


class Data(NamedTuple):
  """Pairs of a model; see `prepare`.

  Attributes:
    fitted: to fit on.
    chosen: some of these, to choose a layer by.
    scored: of other sequences, to score on.
  """

  fitted: Pairs
  chosen: Pairs
  scored: Pairs


class Scores(NamedTuple):
  """Shares of pairs, [L + 1, K]: by layer and tau - 1.

  What reads no layer has the same score in all of them.

  Attributes:
    accuracy: against the text's tokens.
    agreement: with the model's most likely tokens on the text.
  """

  accuracy: jax.Array
  agreement: jax.Array


class Measured(NamedTuple):
  """Scores by method on the sequences fitted on, and on the others.

  Attributes:
    fitted: of `HIDDEN`, `LOGITS` and `LEARNED`; to choose a layer by.
    scored: of all methods and controls.
  """

  fitted: dict[str, Scores]
  scored: dict[str, Scores]


class Chosen(NamedTuple):
  """A method's scores at one layer, by seed; see `at_chosen`.

  Attributes:
    layer: the layer; None where the method reads none.
    accuracy: [E].
    agreement: [E].
  """

  layer: int | None
  accuracy: np.ndarray
  agreement: np.ndarray


def collect(
  key: jax.Array,
  decoder: Decoder,
  params: Params,
  windows: jax.Array,
  positions: int,
  horizon: int,
) -> Pairs:
  """Runs the model on sequences and keeps some positions of each.

  Args:
    key: a PRNG key, consumed; decides the positions.
    decoder: the model.
    params: its parameters.
    windows: integer [W, N + 1].
    positions: how many of each sequence, without replacement.
    horizon: the largest tau, K.

  Returns:
    The pairs, sequence after sequence; n = W * positions.

  Raises:
    ValueError: there are not so many positions with K tokens after them.
  """
  chex.assert_rank(windows, 2)
  room = windows.shape[1] - horizon
  if not 1 <= positions <= room:
    raise ValueError(
      f"positions must lie in 1..{room} for tau up to {horizon} in windows of"
      f" {windows.shape[1]} tokens, not {positions}"
    )
  config = decoder.config
  sites = [residual_site(config, at) for at in range(config.layers + 1)]
  orders = jax.vmap(lambda k: jax.random.permutation(k, room))(
    jax.random.split(key, windows.shape[0])
  )

  def one(pair: tuple[jax.Array, jax.Array]) -> Pairs:
    window, at = pair
    logits, seen = capture(decoder, params, window[None, :-1], sites)
    then = at[:, None] + jnp.arange(horizon)[None]
    predicted = jnp.argmax(logits[0], axis=-1).astype(jnp.int32)
    return Pairs(
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


def read_out(decoder: Decoder, params: Params, states: jax.Array) -> jax.Array:
  """What the model's final norm and head make of states [n, D]; [n, V]."""
  site = residual_site(decoder.config, decoder.config.layers)
  inputs = jnp.zeros((states.shape[0], 1), jnp.int32)
  edits = {site: lambda _: states[:, None]}
  return models.apply(decoder, params, inputs, edits=edits)[:, 0]


def hidden_guesses(
  decoder: Decoder,
  params: Params,
  fitted: Pairs,
  others: Pairs,
  layer: jax.Array | int,
  penalty: float = probes.PENALTY,
) -> jax.Array:
  """`HIDDEN`: fits on some pairs and decodes others.

  Args:
    decoder: the model, whose final norm and head read the result.
    params: its parameters.
    fitted: n pairs to fit on.
    others: m pairs to decode.
    layer: of the states, in 0..L; may be traced.
    penalty: of `probes.fit_ridge`.

  Returns:
    The most likely tokens, integer [m, K].

  Source: Pal et al. (2023), section 3.2. Differs from it in the fit, which is
  ridge regression in closed form.
  """
  later_shape = fitted.later.shape[1:]
  probe = probes.fit_ridge(
    fitted.states[:, layer],
    fitted.later.reshape(len(fitted.later), -1),
    penalty=penalty,
  )

  def guess(state: jax.Array) -> jax.Array:
    later_KxD = probes.predict(probe, state).reshape(later_shape)
    return jnp.argmax(read_out(decoder, params, later_KxD), axis=-1)

  return jax.lax.map(guess, others.states[:, layer], batch_size=_ROWS)


def logits_guesses(
  key: jax.Array,
  vocab_size: int,
  fitted: Pairs,
  others: Pairs,
  layer: jax.Array | int,
  setup: Setup,
) -> jax.Array:
  """`LOGITS`: fits on some pairs and decodes others.

  Softmax regression on standardised states from zero weights, by `descend`.

  Args:
    key: a PRNG key, consumed; decides the batches.
    vocab_size: number of tokens, V.
    fitted: n pairs to fit on.
    others: m pairs to decode.
    layer: of the states, in 0..L; may be traced.
    setup: gives steps, batch size and learning rate.

  Returns:
    The most likely tokens, integer [m, K].

  Source: Pal et al. (2023), section 3.2.
  """
  scale = probes.scaling(fitted.states[:, layer])
  z_nxD = scale(fitted.states[:, layer])
  dtype, width = z_nxD.dtype, z_nxD.shape[1]
  horizon = fitted.tokens.shape[1]

  def logits(weights: tuple[jax.Array, jax.Array], z: jax.Array) -> jax.Array:
    return jnp.einsum("nd,dkv->nkv", z, weights[0]) + weights[1][None]

  def nats(weights: tuple[jax.Array, jax.Array], picks: jax.Array) -> jax.Array:
    losses_BxK = optax.softmax_cross_entropy_with_integer_labels(
      logits(weights, z_nxD[picks]), fitted.tokens[picks]
    )
    # A sum over tau, for these are separate maps fitted side by side.
    return jnp.sum(jnp.mean(losses_BxK, axis=0))

  weights = descend(
    nats,
    (
      jnp.zeros((width, horizon, vocab_size), dtype),
      jnp.zeros((horizon, vocab_size), dtype),
    ),
    key,
    rows=len(z_nxD),
    steps=setup.map_steps,
    batch_size=setup.map_batch,
    learning_rate=setup.map_rate,
  )
  return jax.lax.map(
    lambda state: jnp.argmax(logits(weights, scale(state[None]))[0], axis=-1),
    others.states[:, layer],
    batch_size=_ROWS,
  )


def other_states(states: jax.Array, positions: int) -> jax.Array:
  """Gives every pair the state of another sequence.

  Args:
    states: of n pairs, sequence after sequence, [n, ...].
    positions: pairs a sequence, of which there are at least 2.

  Returns:
    The states of the sequence half of all sequences away.

  Raises:
    ValueError: there is one sequence only.
  """
  half = len(states) // positions // 2
  if half < 1:
    raise ValueError(
      f"two sequences are needed, not {len(states) // positions}"
    )
  return jnp.roll(states, half * positions, axis=0)


def skip_bigram(tokens: np.ndarray, offset: int, vocab_size: int) -> np.ndarray:
  """The token that is most often found some way after each token.

  Args:
    tokens: token ids below V, integer [n].
    offset: how far after, tau, at least 1; smaller than n.
    vocab_size: V.

  Returns:
    Integer [V]: by token, the commonest one `offset` later, the smaller id on
    ties; the commonest of all for a token that nothing comes after.

  Raises:
    ValueError: `offset` is out of range.
  """
  if not 1 <= offset < len(tokens):
    raise ValueError(f"offset must lie in 1..{len(tokens) - 1}, not {offset}")
  ids = np.asarray(tokens, np.int64)
  codes, counts = np.unique(
    ids[:-offset] * vocab_size + ids[offset:], return_counts=True
  )
  found = np.full(vocab_size, np.bincount(ids).argmax(), np.int32)
  # The last one written stays: the highest count, then the smallest token.
  codes = codes[np.lexsort((-codes, counts))]
  found[codes // vocab_size] = codes % vocab_size
  return found


def prepare(
  key: jax.Array,
  decoder: Decoder,
  params: Params,
  fit_on: jax.Array,
  score_on: jax.Array,
  setup: Setup,
) -> Data:
  """Collects the pairs that everything is fitted and scored on.

  Args:
    key: a PRNG key, consumed; the same one gives all seeds the same pairs.
    decoder: the model.
    params: its parameters, of one seed.
    fit_on: sequences to fit on, integer [W, N + 1].
    score_on: other sequences, integer [W, N + 1].
    setup: gives the positions a sequence and the horizon.

  Returns:
    The pairs.

  Raises:
    ValueError: as `collect`.
  """
  fit_key, score_key = jax.random.split(key)
  horizon = setup.horizon
  fitted = collect(
    fit_key, decoder, params, fit_on, setup.fit_positions, horizon
  )
  every = setup.fit_positions // setup.score_positions
  return Data(
    fitted,
    jax.tree.map(lambda x: x[::every], fitted),
    collect(
      score_key, decoder, params, score_on, setup.score_positions, horizon
    ),
  )


def measure_linear(
  key: jax.Array,
  decoder: Decoder,
  params: Params,
  data: Data,
  counted: jax.Array,
  setup: Setup,
) -> Measured:
  """Fits and scores `HIDDEN` and `LOGITS`, beside `COUNTED` and `ON_TEXT`.

  Args:
    key: a PRNG key, consumed.
    decoder: the model.
    params: its parameters, of one seed.
    data: from `prepare`.
    counted: by tau - 1, the table of `skip_bigram`, integer [K, V].
    setup: how to fit.

  Returns:
    Scores by method. The agreement is with this model, trained or not.
  """
  fitted, chosen, scored = data
  both = jax.tree.map(lambda *x: jnp.concatenate(x), chosen, scored)
  vocab_size = counted.shape[1]

  def at_layer(layer: jax.Array) -> dict[str, jax.Array]:
    return {
      HIDDEN: hidden_guesses(
        decoder, params, fitted, both, layer, setup.penalty
      ),
      LOGITS: logits_guesses(key, vocab_size, fitted, both, layer, setup),
    }

  layers = decoder.config.layers + 1
  found = jax.lax.map(at_layer, jnp.arange(layers))
  half = len(chosen.current)
  stateless = {
    COUNTED: counted[:, scored.current].T,
    ON_TEXT: scored.predicted,
  }
  return Measured(
    _scores({name: x[:, :half] for name, x in found.items()}, chosen),
    _scores({name: x[:, half:] for name, x in found.items()}, scored)
    | _scores(_everywhere(stateless, layers), scored),
  )


def measure_prompts(
  key: jax.Array,
  decoder: Decoder,
  params: Params,
  data: Data,
  tokens: jax.Array,
  setup: Setup,
) -> Measured:
  """Trains and scores `LEARNED` and the controls that are prompts.

  Args:
    key: a PRNG key, consumed.
    decoder: the model.
    params: its parameters, of one seed.
    data: from `prepare`.
    tokens: the text that the fixed prompt stands for, integer [M]; training
      begins there.
    setup: how to fit.

  Returns:
    Scores by method.

  Raises:
    ValueError: as `train_prompt` and `other_states`.
  """
  fitted, chosen, scored = data
  learned_key, alone_key = jax.random.split(key)
  fixed = prompt_of(decoder, params, tokens)
  # In one array, for one prompt decodes them all.
  rows = jnp.concatenate(
    [
      chosen.states,
      scored.states,
      other_states(scored.states, setup.score_positions),
    ]
  )
  ends = np.cumsum([len(chosen.current), len(scored.current)])

  def train(key: jax.Array, layer: jax.Array | int, states: jax.Array):
    return train_prompt(
      key,
      decoder,
      params,
      fixed,
      layer,
      states,
      fitted.tokens,
      offsets=setup.offsets,
      steps=setup.prompt_steps,
      batch_size=setup.prompt_batch,
      learning_rate=setup.prompt_rate,
    )

  def say(prompt, layer, states, fed=None) -> jax.Array:
    return decode(decoder, params, prompt, layer, states, setup.horizon, fed)

  def at_layer(layer: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    states = scored.states[:, layer]
    learned = train(learned_key, layer, fitted.states[:, layer])
    choosing, scoring, shuffled = jnp.split(
      say(learned, layer, rows[:, layer]), ends
    )
    return choosing, {
      LEARNED: scoring,
      SHUFFLED: shuffled,
      FIXED: say(fixed, layer, states),
      FED: say(learned, layer, states, scored.tokens),
    }

  layers = decoder.config.layers + 1
  choosing, found = jax.lax.map(at_layer, jnp.arange(layers))
  unused = scored.states[:, 0]
  alone = train(alone_key, NOWHERE, fitted.states[:, 0])
  said = say(alone, NOWHERE, unused[:1])
  stateless = {
    NO_STATE: jnp.broadcast_to(said, scored.tokens.shape),
    FED_NO_STATE: say(alone, NOWHERE, unused, scored.tokens),
  }
  return Measured(
    _scores({LEARNED: choosing}, chosen),
    _scores(found, scored) | _scores(_everywhere(stateless, layers), scored),
  )


def _everywhere(
  guesses: Mapping[str, jax.Array], layers: int
) -> dict[str, jax.Array]:
  """The same guesses [n, K] at all layers."""
  return {
    name: jnp.broadcast_to(x[None], (layers, *x.shape))
    for name, x in guesses.items()
  }


def _scores(
  guesses: Mapping[str, jax.Array], pairs: Pairs
) -> dict[str, Scores]:
  """Scores guesses [layers, n, K] of pairs."""
  return {
    name: Scores(
      jnp.mean(x == pairs.tokens[None], axis=1),
      jnp.mean(x == pairs.predicted[None], axis=1),
    )
    for name, x in guesses.items()
  }


def at_chosen(measured: Measured, method: str, tau: int) -> Chosen:
  """The scores of a method at the layer that is best where it was fitted.

  Choosing by what is scored would make it look better than it is.

  Args:
    measured: scores of all seeds, arrays [E, L + 1, K].
    method: one of `Measured.scored`; the controls of `LEARNED` are taken at its
      layer.
    tau: how far ahead.

  Returns:
    The layer of the highest accuracy averaged over seeds, the lowest on ties,
    and the scores [E] there.
  """
  chooser = LEARNED if method in (FED, SHUFFLED, FIXED) else method
  scores, layer = measured.scored[method], None
  if chooser in measured.fitted:
    fitted_ExL = np.asarray(measured.fitted[chooser].accuracy)[..., tau - 1]
    layer = int(fitted_ExL.mean(axis=0).argmax())
  accuracy, agreement = (np.asarray(x)[:, layer or 0, tau - 1] for x in scores)
  return Chosen(layer, accuracy, agreement)
