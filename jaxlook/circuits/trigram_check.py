"""Compares the skip-trigrams of all seeds of a variant with the text.

The weights alone choose the listed skip-trigrams; the text only gives the
frequency of each token. There are two controls. One combines the listed tokens
at random. The other draws skip-trigrams from the text instead of the table;
their effects in the model may be positive or negative.
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
from jaxlook.errors import check_ids
from jaxlook.interventions.forward import forward_only
from jaxlook.models import Decoder
from jaxlook.tasks.losses import cross_entropy


@dataclasses.dataclass(frozen=True)
class TrigramScale:
  """How much is listed and counted.

  Attributes:
    windows: number of windows of the training text to count in.
    sequences: number of held-out sequences, for losses and the last LayerNorm.
    floor: tokens below this probability are not listed.
    sources: number of sources listed for each head.
    entries: number of destinations and of outputs listed for each source, M.
    drawn: number of skip-trigrams drawn from the held-out text.
  """

  windows: int
  sequences: int
  floor: float
  sources: int
  entries: int
  drawn: int


@dataclasses.dataclass(frozen=True)
class TrigramPlan:
  """The text and the drawn skip-trigrams, shared by all models.

  Attributes:
    held_out: text on which losses and the last LayerNorm are measured, integer
      [B, T + 1].
    windows: the text to count in, integer [W, T + 1].
    probability: frequency of every token in `windows`, [V].
    scale: how much is listed.
    drawn: source, destination and output of the drawn skip-trigrams, integer
      [3, R].
    counts: the counts of the drawn skip-trigrams.
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
    variant: the variant as in the flag, or another name of the models.
    seeds: the seeds that did not diverge.
    listed: entries of the table, by seed; see `skip_trigrams.top_trigrams`.
    counts: counts of the listed skip-trigrams, by seed.
    mixed: counts of the listed tokens in random combinations, by seed.
    drawn: the effect of the drawn skip-trigrams, summed over heads, [E, R].
    copying: copying score of every head, [E, N].
    losses: loss on the held-out text, nats/token, [E].
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
  """Draws and counts the skip-trigrams with which all models are compared.

  Args:
    held_out: text to measure losses and the last LayerNorm on, and to draw
      skip-trigrams from, integer [B, T + 1].
    windows: the text to count in, integer [W, T + 1].
    vocab_size: number of token ids, V.
    scale: how much is listed and drawn.

  Returns:
    The plan. A drawn skip-trigram occurs in the held-out text: the destination
    is a random token, the output is the token after it, and the source is a
    random token before it. The held-out text is not counted, so drawing does
    not increase the lift.

  Raises:
    ValueError: too few tokens are frequent enough.
  """
  probability = np.bincount(windows.ravel(), minlength=vocab_size)
  probability = probability / probability.sum()
  kept = np.count_nonzero(probability >= scale.floor)
  # A source is not its own destination.
  needed = max(scale.sources, scale.entries + 1)
  if kept < needed:
    raise ValueError(
      f"only {kept} tokens have a share of at least {scale.floor:g} of the"
      f" text, but {needed} are needed"
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
    variant: the name of the models.
    decoder: the model under the variant.
    seeds: of the models.
    params: parameters with a leading seed axis E.

  Returns:
    The results.

  Raises:
    ValueError: see `skip_trigrams.head_circuits`.
  """
  check_ids(decoder.config.vocab_size, plan.held_out)
  listed, drawn, losses = _read(
    # Variants that cut only gradients compute the same function, so they can
    # share one compiled program.
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
  # Counted together, so that the text is read only once.
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
  """Of one seed: listed entries, effects of the drawn ones, and the loss."""
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
