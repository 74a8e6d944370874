"""The future lens: tokens beyond the next, decoded from one hidden state.

Token n + tau (tau = 1 is the next; Pal et al. write N = tau - 1) is decoded
from the residual stream at position n and layer l only, by three methods:

| method | how |
| --- | --- |
| `HIDDEN` | ridge regression to the last layer's state at n + tau - 1, which \
the model's own final norm and head read |
| `LOGITS` | softmax regression to token n + tau |
| `LEARNED` | a soft prompt, trained for one tau, that ends in the state; see \
`soft_prompt` |

Compare their scores with controls that need no state, or another one:

| control | what it is |
| --- | --- |
| `FIXED` | a piece of text as the prompt, not trained, that ends in the state |
| `SHUFFLED` | the learned prompt, ending in a state of another sequence |
| `NO_STATE` | a prompt trained without any state |
| `FED`, `FED_NO_STATE` | `LEARNED` and `NO_STATE`, fed the text's tokens |
| `COMMONEST` | the commonest token tau later, for any state |
| `COUNTED` | the commonest token tau after token n in the training text |
| `ON_TEXT` | the model itself, which reads the whole text: an upper bound |

and with the linear methods on an untrained model.

A score is a share of pairs (sequence, position). `accuracy` is the share that
gives the text's token n + tau. `agreement` is the share that gives the token
that the model itself predicts at n + tau - 1 of the real text. Pal et al. score
against the continuation that the model generates from n on. For tau > 1 that
continuation differs from the text and is easier to guess. Their published code
(causal_methods/module.py) feeds the tokens that it scores against after the
prompt. `FED` does the same with the text, so it knows the tokens n + 1 ..
n + tau - 1, which the linear maps do not know; compare it with `FED_NO_STATE`.
All other prompts are fed the tokens that they decode. At the last layer, the
state in a prompt decides token n + 1 only, because no later position reads it.

All methods are fitted on one set of sequences and scored on another. Functions
take one seed; use `jax.vmap` for several. Not included: scores by entropy or
top-k, and named entities.

Source: Pal et al. (2023), arXiv 2311.04897, sections 3 and 4.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.lookahead.future_maps import hidden_guesses, logits_guesses
from jaxlook.lookahead.future_pairs import (
  LensPairs,
  LensSetup,
  StatePairs,
  other_states,
)
from jaxlook.lookahead.soft_prompt import (
  NO_LAYER,
  decode,
  prompt_from_text,
  train_prompt,
)
from jaxlook.models import Decoder
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
COMMONEST = "commonest token"
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
  COMMONEST,
  ON_TEXT,
)
"""All methods and controls, in the order of the tables."""


class MethodScores(NamedTuple):
  """Shares of pairs, [L + 1, K]: by layer and tau - 1.

  A method that reads no layer has the same score for all layers.

  Attributes:
    accuracy: against the text's tokens.
    agreement: with the tokens that the model predicts on the text.
  """

  accuracy: jax.Array
  agreement: jax.Array


class LensResults(NamedTuple):
  """Scores by method.

  Attributes:
    fitted: on the sequences fitted on, for `HIDDEN`, `LOGITS` and `LEARNED`; to
      choose a layer by.
    scored: on other sequences, for all methods and controls.
  """

  fitted: dict[str, MethodScores]
  scored: dict[str, MethodScores]


class LayerScores(NamedTuple):
  """A method's scores at one layer, by seed; see `at_best_layer`.

  Attributes:
    layer: the layer; None if the method reads no layer.
    accuracy: [E].
    agreement: [E].
  """

  layer: int | None
  accuracy: np.ndarray
  agreement: np.ndarray


def measure_linear(
  key: jax.Array,
  decoder: Decoder,
  params: Params,
  data: LensPairs,
  counted: jax.Array,
  setup: LensSetup,
) -> LensResults:
  """Fits and scores `HIDDEN` and `LOGITS`, and controls without a prompt.

  Args:
    key: a PRNG key, consumed.
    decoder: the model.
    params: parameters of one seed.
    data: from `prepare`.
    counted: by tau - 1, the table of `skip_bigram`, integer [K, V].
    setup: how to fit.

  Returns:
    Scores by method. The agreement is with this model, trained or untrained.
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
  commonest_K = jnp.argmax(
    jax.vmap(lambda tokens: jnp.bincount(tokens, length=vocab_size), in_axes=1)(
      fitted.tokens
    ),
    axis=-1,
  )
  stateless = {
    COUNTED: counted[:, scored.current].T,
    COMMONEST: jnp.broadcast_to(commonest_K[None], scored.tokens.shape),
    ON_TEXT: scored.predicted,
  }
  return LensResults(
    _scores({name: x[:, :half] for name, x in found.items()}, chosen),
    _scores({name: x[:, half:] for name, x in found.items()}, scored)
    | _scores(_everywhere(stateless, layers), scored),
  )


def measure_prompts(
  key: jax.Array,
  decoder: Decoder,
  params: Params,
  data: LensPairs,
  tokens: jax.Array,
  setup: LensSetup,
) -> LensResults:
  """Trains and scores `LEARNED` and the controls that are prompts.

  Args:
    key: a PRNG key, consumed.
    decoder: the model.
    params: parameters of one seed.
    data: from `prepare_pairs`.
    tokens: the text of the fixed prompt, integer [M]; training starts from it.
    setup: how to fit.

  Returns:
    Scores by method.

  Raises:
    ValueError: see `train_prompt` and `other_states`.
  """
  learned_key, alone_key = jax.random.split(key)
  fixed = prompt_from_text(decoder, params, tokens)
  prompts = _Prompts(decoder, params, data.fitted, fixed, setup)
  layers = decoder.config.layers + 1
  choosing, found = jax.lax.map(
    lambda layer: _guesses_at_layer(learned_key, prompts, data, layer),
    jnp.arange(layers),
  )
  scored = data.scored
  return LensResults(
    _scores({LEARNED: choosing}, data.chosen),
    _scores(found, scored)
    | _scores(
      _everywhere(_stateless_guesses(alone_key, prompts, scored), layers),
      scored,
    ),
  )


@dataclasses.dataclass(frozen=True, eq=False)
class _Prompts:
  """Prompts of one model: training them, and decoding with them.

  Attributes:
    decoder: the model.
    params: parameters of one seed.
    fitted: the pairs to train on.
    fixed: the prompt that training starts from.
    setup: how to train.
  """

  decoder: Decoder
  params: Params
  fitted: StatePairs
  fixed: jax.Array
  setup: LensSetup

  def train(
    self, key: jax.Array, layer: jax.Array | int, row: jax.Array | int
  ) -> jax.Array:
    """A prompt for the states of layer `row`, transplanted at `layer`."""
    return train_prompt(
      key,
      self.decoder,
      self.params,
      self.fixed,
      layer,
      self.fitted.states[:, row],
      self.fitted.tokens,
      offsets=self.setup.offsets,
      adam=self.setup.prompt_adam,
    )

  def decode(
    self,
    prompt: jax.Array,
    layer: jax.Array | int,
    states: jax.Array,
    fed: jax.Array | None = None,
  ) -> jax.Array:
    """The tokens that the model predicts; see `soft_prompt.decode`."""
    return decode(
      self.decoder,
      self.params,
      prompt,
      layer,
      states,
      self.setup.horizon,
      fed,
    )


def _guesses_at_layer(
  key: jax.Array, prompts: _Prompts, data: LensPairs, layer: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """What prompts predict from the states of one layer.

  Returns:
    The guesses of `LEARNED` for `data.chosen`, and for `data.scored` those of
    all prompts with a state.
  """
  chosen, scored = data.chosen, data.scored
  # In one array, as one prompt decodes all of them.
  states = jnp.concatenate(
    [
      chosen.states,
      scored.states,
      other_states(scored.states, prompts.setup.score_positions),
    ]
  )
  ends = np.cumsum([len(chosen.current), len(scored.current)])
  learned = prompts.train(key, layer, layer)
  choosing, scoring, shuffled = jnp.split(
    prompts.decode(learned, layer, states[:, layer]), ends
  )
  own = scored.states[:, layer]
  return choosing, {
    LEARNED: scoring,
    SHUFFLED: shuffled,
    FIXED: prompts.decode(prompts.fixed, layer, own),
    FED: prompts.decode(learned, layer, own, scored.tokens),
  }


def _stateless_guesses(
  key: jax.Array, prompts: _Prompts, scored: StatePairs
) -> dict[str, jax.Array]:
  """What a prompt that was trained without a state predicts."""
  unused = scored.states[:, 0]
  alone = prompts.train(key, NO_LAYER, 0)
  # Without a state, the guesses are the same for all pairs.
  guesses = prompts.decode(alone, NO_LAYER, unused[:1])
  return {
    NO_STATE: jnp.broadcast_to(guesses, scored.tokens.shape),
    FED_NO_STATE: prompts.decode(alone, NO_LAYER, unused, scored.tokens),
  }


def _everywhere(
  guesses: Mapping[str, jax.Array], layers: int
) -> dict[str, jax.Array]:
  """The same guesses [n, K] at all layers."""
  return {
    name: jnp.broadcast_to(x[None], (layers, *x.shape))
    for name, x in guesses.items()
  }


def _scores(
  guesses: Mapping[str, jax.Array], pairs: StatePairs
) -> dict[str, MethodScores]:
  """Scores guesses [layers, n, K] of pairs."""
  return {
    name: MethodScores(
      jnp.mean(x == pairs.tokens[None], axis=1),
      jnp.mean(x == pairs.predicted[None], axis=1),
    )
    for name, x in guesses.items()
  }


def at_best_layer(measured: LensResults, method: str, tau: int) -> LayerScores:
  """The scores of a method at the layer that is best on the fitted sequences.

  A choice by the scored sequences would bias the score upwards.

  Args:
    measured: scores of all seeds, arrays [E, L + 1, K].
    method: one of `LensResults.scored`. Controls of `LEARNED` use its layer.
    tau: how far ahead.

  Returns:
    The layer with the highest mean accuracy over seeds (the lowest on ties),
    and the scores [E] there.
  """
  chooser = LEARNED if method in (FED, SHUFFLED, FIXED) else method
  scores, layer = measured.scored[method], None
  if chooser in measured.fitted:
    fitted_ExL = np.asarray(measured.fitted[chooser].accuracy)[..., tau - 1]
    layer = int(fitted_ExL.mean(axis=0).argmax())
  accuracy, agreement = (np.asarray(x)[:, layer or 0, tau - 1] for x in scores)
  return LayerScores(layer, accuracy, agreement)
