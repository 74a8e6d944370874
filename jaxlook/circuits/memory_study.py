"""All measures of feed-forward memories, for the models of one variant.

Combines the measures of `memory_triggers`, `memory_values` and `memories`, for
all seeds in one program.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.circuits import memories
from jaxlook.circuits.memory_triggers import (
  Triggers,
  distinct_prefixes,
  endings,
  patterns,
)
from jaxlook.circuits.memory_values import KINDS, NeuronValues, agreement, ranks
from jaxlook.circuits.memory_values import values as read_values
from jaxlook.errors import check_ids
from jaxlook.models import Decoder

CONFIDENT = 0.1
"""The share of values that counts as the most confident ones."""

LONGEST = 3
"""Number of tokens in the longest ending that is counted."""

OWN, OTHERS, COMMONEST = "own", "other neurons'", "commonest token"
_DRAWS = 2048  # Number of sets of random prefixes.


@dataclasses.dataclass(frozen=True)
class MemorySetup:
  """How much text is read, and what is kept.

  Attributes:
    windows: number of text windows; an incomplete last batch is left out.
    batch: windows per batch.
    top: triggers to keep for each neuron, k.
    tokens: how many of a value's most probable tokens to keep, m.
  """

  windows: int = 1024
  batch: int = 16
  top: int = 25
  tokens: int = 3


class StreamedText(NamedTuple):
  """The text that the models read.

  Attributes:
    inputs: tokens, integer [batches, B, T].
    counted: True for the first of equal prefixes, boolean [batches, B, T].
    following: the token after each prefix, integer [W, T].
    commonest: the most common of those tokens, integer scalar.
  """

  inputs: Any
  counted: Any
  following: Any
  commonest: Any


class MemoryResults(NamedTuple):
  """Measures of a variant's models; every array has a leading seed axis E.

  Attributes:
    by_layer: measures by name, each [E, L].
    overall: measures of all layers together by name, each [E].
    triggers: the triggers of every neuron, [E, L, F, k].
    values: the value of every neuron, [E, L, F, m].
    following: the token after each trigger, [E, L, F, k].
  """

  by_layer: dict[str, Any]
  overall: dict[str, Any]
  triggers: Triggers
  values: NeuronValues
  following: Any


def agreement_name(kind: str, whose: str = OWN) -> str:
  """The name of a measure of agreement, by kind of trigger (`KINDS`)."""
  return f"agreement/{kind}/{whose}"


def ending_name(count: int, measure: str) -> str:
  """The name of a measure (a field of `Patterns`) for endings of a length."""
  return f"last {count}/{measure}"


RANK, RANK_OTHERS = "rank/own", "rank/other neurons'"
ENTROPY, LIVE = "entropy of values", "live neurons"
AMONG_CONFIDENT = "among the most confident"


def confident_name(kind: str) -> str:
  """The name of the most confident values' agreement, in `overall`."""
  return f"agreement/{kind}/most confident"


def streamed_text(
  inputs: Any, following: Any, setup: MemorySetup
) -> StreamedText:
  """Splits windows of text into batches.

  Args:
    inputs: tokens, integer [W, T].
    following: the token after each of them, integer [W, T].
    setup: how many windows to take; the first ones are taken.

  Returns:
    The text.

  Raises:
    ValueError: there are fewer windows than one batch takes.
  """
  count = min(setup.windows, len(inputs)) // setup.batch * setup.batch
  if not count:
    raise ValueError(
      f"has {len(inputs)} held-out windows; a batch takes {setup.batch}"
    )
  inputs, following = (
    np.asarray(x[:count], np.int32) for x in (inputs, following)
  )
  shape = (-1, setup.batch, inputs.shape[1])
  return StreamedText(
    inputs.reshape(shape),
    distinct_prefixes(inputs).reshape(shape),
    following,
    np.bincount(following.ravel()).argmax().astype(np.int32),
  )


def measure_memories(
  decoder: Decoder, params: Any, text: StreamedText, setup: MemorySetup
) -> MemoryResults:
  """Measures the feed-forward layers of the models of one variant.

  Args:
    decoder: the model. Pass `forward_only(decoder)`, so that variants share one
      compiled program.
    params: parameters with a leading seed axis E.
    text: the text that the models read, from `streamed_text`.
    setup: what to keep.

  Returns:
    The measures, as NumPy arrays.
  """
  check_ids(decoder.config.vocab_size, text.inputs)
  return jax.tree.map(np.asarray, _examine(decoder, setup, params, text))


@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None, 0, None))
def _examine(
  decoder: Decoder, setup: MemorySetup, params: Any, text: StreamedText
) -> MemoryResults:
  """The measures of the model of one seed."""
  config = decoder.config
  values = read_values(config, params, setup.tokens)
  predicted = values.token[..., 0]
  triggers, shares = memories.stream_text(
    decoder, params, text.inputs, text.counted, predicted, setup.top
  )
  following = text.following[triggers.window, triggers.position]
  live = triggers.fired[..., 0]
  compare = functools.partial(agreement, vocab_size=config.vocab_size or 0)
  agreed = jax.vmap(compare, (0, 0, 0, None))(
    predicted, following, triggers.fired, text.commonest
  )
  inputs = text.inputs.reshape(-1, text.inputs.shape[-1])
  ends = endings(inputs, triggers.window, triggers.position, LONGEST)
  confident = _confident(values.probability[..., 0])
  by_layer = {
    **shares,
    **_ranked(config, params, following[..., 0], live),
    ENTROPY: jnp.mean(values.entropy, axis=-1),
    LIVE: jnp.mean(live, axis=-1),
    AMONG_CONFIDENT: jnp.mean(confident, axis=-1),
  }
  overall = {}
  for kind in KINDS:
    agreed_kind = agreed[kind]
    by_layer[agreement_name(kind)] = agreed_kind.own
    by_layer[agreement_name(kind, OTHERS)] = agreed_kind.others
    by_layer[agreement_name(kind, COMMONEST)] = agreed_kind.commonest
    overall[confident_name(kind)] = _mean(agreed_kind.each, confident & live)
  for count in range(1, LONGEST + 1):
    shared = jax.vmap(patterns)(ends[..., :count], triggers.fired)
    for name, each in shared._asdict().items():
      by_layer[ending_name(count, name)] = jax.vmap(_mean)(each, live)
  return MemoryResults(by_layer, overall, triggers, values, following)


def random_patterns(text: StreamedText, top: int) -> dict[str, float]:
  """Measures the endings that random prefixes share: the level of chance.

  Args:
    text: the text.
    top: prefixes in a set, k.

  Returns:
    Means over many sets, by the names of `ending_name`.
  """
  inputs = np.asarray(text.inputs).reshape(-1, text.inputs.shape[-1])
  places = np.flatnonzero(np.asarray(text.counted).ravel())
  drawn = np.random.default_rng(0).choice(places, (_DRAWS, top))
  window, position = map(jnp.asarray, np.divmod(drawn, inputs.shape[1]))
  ends = endings(jnp.asarray(inputs), window, position, LONGEST)
  every = jnp.ones(drawn.shape, bool)
  return {
    ending_name(count, name): float(jnp.mean(each))
    for count in range(1, LONGEST + 1)
    for name, each in patterns(ends[..., :count], every)._asdict().items()
  }


def _mean(values: jax.Array, chosen: jax.Array) -> jax.Array:
  """The mean over the chosen values; 0 if none is chosen."""
  total = jnp.sum(jnp.where(chosen, values, 0.0))
  return total / jnp.maximum(jnp.sum(chosen), 1)


def _confident(probability: jax.Array) -> jax.Array:
  """Which values are among the most confident of all layers, [L, F]."""
  count = max(1, round(CONFIDENT * probability.size))
  least = jax.lax.top_k(probability.ravel(), count)[0][-1]
  return probability >= least


def _ranked(config, params, following, live) -> dict[str, jax.Array]:
  """Mean ranks of the tokens after the strongest triggers, from 0 to 1."""
  # Neurons have no order, so the next one can serve as a random one.
  others = jnp.roll(following, 1, axis=-1)
  means = {}
  for name, tokens, may in (
    (RANK, following, live),
    (RANK_OTHERS, others, live & jnp.roll(live, 1, axis=-1)),
  ):
    place = (ranks(config, params, tokens) - 1) / (config.vocab_size - 1)
    means[name] = jax.vmap(_mean)(place, may)
  return means
