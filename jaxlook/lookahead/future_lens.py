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
| `COMMONEST` | the token most often met tau later, whatever the state |
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
"""All of them, in the order of the tables."""


class MethodScores(NamedTuple):
  """Shares of pairs, [L + 1, K]: by layer and tau - 1.

  What reads no layer has the same score in all of them.

  Attributes:
    accuracy: against the text's tokens.
    agreement: with the model's most likely tokens on the text.
  """

  accuracy: jax.Array
  agreement: jax.Array


class LensResults(NamedTuple):
  """Scores by method on the sequences fitted on, and on the others.

  Attributes:
    fitted: of `HIDDEN`, `LOGITS` and `LEARNED`; to choose a layer by.
    scored: of all methods and controls.
  """

  fitted: dict[str, MethodScores]
  scored: dict[str, MethodScores]


class LayerScores(NamedTuple):
  """A method's scores at one layer, by seed; see `at_best_layer`.

  Attributes:
    layer: the layer; None where the method reads none.
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
  """Fits and scores `HIDDEN` and `LOGITS`, beside what needs none.

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
  fixed = prompt_from_text(decoder, params, tokens)
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
  alone = train(alone_key, NO_LAYER, fitted.states[:, 0])
  said = say(alone, NO_LAYER, unused[:1])
  stateless = {
    NO_STATE: jnp.broadcast_to(said, scored.tokens.shape),
    FED_NO_STATE: say(alone, NO_LAYER, unused, scored.tokens),
  }
  return LensResults(
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
  """The scores of a method at the layer that is best where it was fitted.

  Choosing by what is scored would make it look better than it is.

  Args:
    measured: scores of all seeds, arrays [E, L + 1, K].
    method: one of `LensResults.scored`; the controls of `LEARNED` are taken at
    its
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
  return LayerScores(layer, accuracy, agreement)
