"""The skip-trigrams of all seeds of a variant, held against the text.

What is listed was chosen by the weights alone; the text only says how often
each token occurs. Two controls need no other model: the listed tokens in random
combinations, and skip-trigrams drawn from the text instead of from the table,
whose effects in the model may be of either sign.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook import models
from jaxlook.circuits import skip_trigrams, trigram_counts
from jaxlook.circuits.qk_ov import copying_scores
from jaxlook.circuits.skip_trigrams import Trigrams
from jaxlook.circuits.trigram_counts import Counts
from jaxlook.interventions.forward import forward_only
from jaxlook.models import Decoder
from jaxlook.tasks.losses import cross_entropy


@dataclasses.dataclass(frozen=True)
class TrigramScale:
  """How much is listed and counted.

  Attributes:
    windows: of the training text to count in.
    sequences: held-out ones, for losses and the last LayerNorm.
    floor: tokens below this probability are not listed.
    sources: listed for each head.
    entries: destinations and outputs listed for each source, M.
    drawn: skip-trigrams drawn from the held-out text.
  """

  windows: int
  sequences: int
  floor: float
  sources: int
  entries: int
  drawn: int


@dataclasses.dataclass(frozen=True)
class TrigramPlan:
  """What is listed and what it is held against.

  Attributes:
    held_out: text to measure losses and the last LayerNorm on, integer
      [B, T + 1].
    windows: the text to count in, integer [W, T + 1].
    probability: of every token in it, [V].
    scale: how much is listed.
    drawn: source, destination and output of skip-trigrams of the held-out text,
      integer [3, R].
    counts: of those.
  """

  held_out: np.ndarray
  windows: np.ndarray
  probability: np.ndarray
  scale: TrigramScale
  drawn: np.ndarray
  counts: Counts


class TrigramResults(NamedTuple):
  """The skip-trigrams of one variant's seeds.

  Attributes:
    variant: the attention's flag form, or what else tells the models apart.
    seeds: those that did not diverge.
    listed: by seed, entries of the table; see `skip_trigrams.listed`.
    counts: by seed, of the listed ones.
    mixed: by seed, counts of the listed tokens in random combinations.
    drawn: the effect of the drawn skip-trigrams, all heads together, [E, R].
    copying: copying score of every head, [E, N].
    losses: on the held-out text, nats/token, [E].
  """

  variant: str
  seeds: tuple[int, ...]
  listed: Sequence[Trigrams]
  counts: Sequence[Counts]
  mixed: Sequence[Counts]
  drawn: np.ndarray
  copying: np.ndarray
  losses: np.ndarray


def make_plan(
  held_out: np.ndarray,
  windows: np.ndarray,
  vocab_size: int,
  scale: TrigramScale,
) -> TrigramPlan:
  """Counts what all models are held against.

  Args:
    held_out: text to measure losses and the last LayerNorm on, and to draw
      skip-trigrams from, integer [B, T + 1].
    windows: the text to count in, integer [W, T + 1].
    vocab_size: number of token ids, V.
    scale: how much is listed and drawn.

  Returns:
    The plan. A drawn skip-trigram is one that occurs: a random token, the next
    one, and a random one before. As none of it was counted, being drawn makes
    no lift larger.

  Raises:
    ValueError: fewer tokens are frequent enough than are to be listed.
  """
  probability = np.bincount(windows.ravel(), minlength=vocab_size)
  probability = probability / probability.sum()
  kept = np.count_nonzero(probability >= scale.floor)
  # A source is not its own destination.
  needed = max(scale.sources, scale.entries + 1)
  if kept < needed:
    raise ValueError(
      f"only {kept} tokens have a share of {scale.floor:g} of the text, too few"
      f" to list {needed}"
    )
  rng = np.random.default_rng(0)
  window = rng.integers(len(held_out), size=scale.drawn)
  place = rng.integers(1, held_out.shape[1] - 1, size=scale.drawn)
  triples = np.stack(
    [held_out[window, at] for at in (rng.integers(place), place, place + 1)]
  )
  counts = trigram_counts.count_trigrams(windows, *triples)
  return TrigramPlan(held_out, windows, probability, scale, triples, counts)


def measure_trigrams(
  plan: TrigramPlan, variant: str, decoder: Decoder, seeds, params
) -> TrigramResults:
  """Lists the skip-trigrams of one variant's models and counts them.

  Args:
    plan: from `make_plan`.
    variant: what the models are called.
    decoder: the model under the variant.
    seeds: of the models.
    params: parameters with a leading seed axis E.

  Returns:
    The findings.

  Raises:
    ValueError: as `skip_trigrams.head_circuits`.
  """
  listed, drawn, losses = _read(
    # Variants that only cut gradient are one function, and one program.
    forward_only(decoder),
    params,
    jnp.asarray(plan.held_out),
    jnp.asarray(plan.probability, jnp.float32),
    jnp.asarray(plan.drawn),
    plan.scale,
  )
  listed = [
    Trigrams(*(np.asarray(x[seed]) for x in listed))
    for seed in range(len(seeds))
  ]
  mixed = [
    trigram_counts.shuffled_tokens(each, seed)
    for seed, each in zip(seeds, listed, strict=True)
  ]
  # In one pass over the text.
  together = [
    np.concatenate([np.asarray(each[column]) for each in (*listed, *mixed)])
    for column in range(1, 4)
  ]
  counts = trigram_counts.count_trigrams(plan.windows, *together)
  split = [
    Counts(*parts)
    for parts in zip(
      *(np.split(x, 2 * len(seeds)) for x in counts), strict=True
    )
  ]
  return TrigramResults(
    variant=variant,
    seeds=tuple(seeds),
    listed=listed,
    counts=split[: len(seeds)],
    mixed=split[len(seeds) :],
    drawn=np.asarray(drawn),
    copying=np.stack(
      [_copying(decoder, params, seed) for seed in range(len(seeds))]
    ),
    losses=np.asarray(losses),
  )


@functools.partial(jax.jit, static_argnums=(0, 5))
@functools.partial(jax.vmap, in_axes=(None, 0, None, None, None, None))
def _read(
  decoder: Decoder,
  params: Any,
  held_out: jax.Array,
  probability: jax.Array,
  drawn: jax.Array,
  scale: TrigramScale,
) -> tuple[Trigrams, jax.Array, jax.Array]:
  """What is listed of one seed, the effect of what was drawn, and the loss."""
  tokens, targets = held_out[:, :-1], held_out[:, 1:]
  circuits = skip_trigrams.head_circuits(
    decoder, params, tokens, probability, floor=scale.floor
  )
  table = skip_trigrams.strongest_entries(circuits, scale.entries)
  look, write = skip_trigrams.effect_parts(circuits, *drawn)
  return (
    skip_trigrams.top_trigrams(table, circuits.kept, scale.sources),
    jnp.sum(look * write, axis=0),
    jnp.mean(cross_entropy(models.apply(decoder, params, tokens), targets)),
  )


def _copying(decoder: Decoder, params: Any, seed: int) -> np.ndarray:
  own = jax.tree.map(lambda x: jnp.asarray(x[seed]), params)
  return copying_scores(decoder.config, own, fold_norms=True)[0]
