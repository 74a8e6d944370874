"""The skip-trigrams of all seeds of a variant, held against the text.

What is listed was chosen by the weights alone; the text only says how often
each token occurs. Two controls need no other model: the listed tokens in random
combinations, and skip-trigrams drawn from the text instead of from the table,
whose effects in the model may be of either sign.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook import models
from jaxlook.circuits import skip_trigrams, trigram_counts
from jaxlook.circuits.qk_ov import full_ov
from jaxlook.circuits.skip_trigrams import Trigrams
from jaxlook.circuits.trigram_counts import Bugs, Counts
from jaxlook.lookahead.interventions import forward_only
from jaxlook.models import Decoder
from jaxlook.tasks.text import cross_entropy

LOSS = "held-out loss, nats/token"
TESTABLE = "listed that the text can tell of, share"
LISTED = "listed with lift > 1, share of those"
MIXED = "random combinations with lift > 1, share of those"
POOLED = "log2 of the lift of all listed together"
POOLED_MIXED = "log2 of the lift of all random combinations together"
RANK_LISTED = "rank correlation of effect and lift, listed"
RANK_DRAWN = "rank correlation of effect and lift, drawn from the text"
EFFECT = "mean effect of the listed, logits"
FORCED = "forced and never true, share of the listed"
COPYING = "mean copying score of the heads"
POSITIVE = "heads with a positive copying score, share"
MEASURES = (
  *(LOSS, TESTABLE, LISTED, MIXED, POOLED, POOLED_MIXED, RANK_LISTED),
  *(RANK_DRAWN, EFFECT, FORCED, COPYING, POSITIVE),
)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is listed and what it is held against.

  Attributes:
    held_out: text to measure losses and the last LayerNorm on, integer
      [B, T + 1].
    windows: the text to count in, integer [W, T + 1].
    probability: of every token in it, [V].
    floor: tokens below this probability are not listed.
    sources: sources listed for each head.
    entries: destinations and outputs listed for each source, M.
    drawn: source, destination and output of skip-trigrams of the held-out text,
      integer [3, R].
    counts: of those.
  """

  held_out: np.ndarray
  windows: np.ndarray
  probability: np.ndarray
  floor: float
  sources: int
  entries: int
  drawn: np.ndarray
  counts: Counts


class Checked(NamedTuple):
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
  *,
  floor: float,
  sources: int,
  entries: int,
  drawn: int,
) -> Plan:
  """Counts what all models are held against.

  Args:
    held_out: text to measure losses and the last LayerNorm on, and to draw
      skip-trigrams from, integer [B, T + 1].
    windows: the text to count in, integer [W, T + 1].
    vocab_size: number of token ids, V.
    floor: tokens below this probability are not listed.
    sources: sources to list for each head.
    entries: destinations and outputs to list for each source, M.
    drawn: skip-trigrams to draw from the text.

  Returns:
    The plan. A drawn skip-trigram is one that occurs: a random token, the next
    one, and a random one before. As none of it was counted, being drawn makes
    no lift larger.

  Raises:
    ValueError: fewer tokens are frequent enough than are to be listed.
  """
  probability = np.bincount(windows.ravel(), minlength=vocab_size)
  probability = probability / probability.sum()
  kept = probability >= floor
  if kept.sum() < max(sources, entries):
    raise ValueError(
      f"only {kept.sum()} tokens have a share of {floor:g} of the text, too few"
      f" to list {max(sources, entries)}"
    )
  rng = np.random.default_rng(0)
  window = rng.integers(len(held_out), size=drawn)
  place = rng.integers(1, held_out.shape[1] - 1, size=drawn)
  triples = np.stack(
    [held_out[window, at] for at in (rng.integers(place), place, place + 1)]
  )
  counts = trigram_counts.count(windows, *triples)
  return Plan(
    *(held_out, windows, probability, floor, sources, entries, triples, counts)
  )


def check(plan: Plan, variant: str, decoder: Decoder, seeds, params) -> Checked:
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
    (plan.floor, plan.sources, plan.entries),
  )
  listed = [
    Trigrams(*(np.asarray(x[seed]) for x in listed))
    for seed in range(len(seeds))
  ]
  mixed = [
    trigram_counts.mixed(each, seed)
    for seed, each in zip(seeds, listed, strict=True)
  ]
  # In one pass over the text.
  together = [
    np.concatenate([np.asarray(each[column]) for each in (*listed, *mixed)])
    for column in range(1, 4)
  ]
  counts = trigram_counts.count(plan.windows, *together)
  split = [
    Counts(*parts)
    for parts in zip(
      *(np.split(x, 2 * len(seeds)) for x in counts), strict=True
    )
  ]
  return Checked(
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
  sizes: tuple[float, int, int],
) -> tuple[Trigrams, jax.Array, jax.Array]:
  """What is listed of one seed, the effect of what was drawn, and the loss."""
  tokens, targets = held_out[:, :-1], held_out[:, 1:]
  floor, sources, entries = sizes
  circuits = skip_trigrams.head_circuits(
    decoder, params, tokens, probability, floor=floor
  )
  table = skip_trigrams.table(circuits, entries)
  look, write = skip_trigrams.parts(circuits, *drawn)
  return (
    skip_trigrams.listed(table, circuits.kept, sources),
    jnp.sum(look * write, axis=0),
    jnp.mean(cross_entropy(models.apply(decoder, params, tokens), targets)),
  )


def _copying(decoder: Decoder, params: Any, seed: int) -> np.ndarray:
  own = jax.tree.map(lambda x: jnp.asarray(x[seed]), params)
  return full_ov(decoder.config, own, fold_norms=True)[0].eigen_score()


def found_bugs(plan: Plan, checked: Checked, seed: int) -> Bugs:
  """The entries that factoring forced into the table of one seed.

  Args:
    plan: what was listed.
    checked: the findings.
    seed: index into the seeds.

  Returns:
    See `trigram_counts.bugs`.
  """
  return trigram_counts.bugs(
    checked.listed[seed], checked.counts[seed], plan.entries
  )


def metrics(plan: Plan, checked: Checked) -> dict[int, dict[str, float]]:
  """The summary of every seed.

  Args:
    plan: what was listed.
    checked: the findings.

  Returns:
    Numbers by seed and name, the constants of this module; those that the text
    cannot tell of are left out.
  """
  found = {}
  for index, seed in enumerate(checked.seeds):
    listed, counts = checked.listed[index], checked.counts[index]
    mixed, sure = checked.mixed[index], counts.testable
    forced = found_bugs(plan, checked, index).forced
    values = {
      LOSS: checked.losses[index],
      TESTABLE: np.mean(sure),
      LISTED: share_above(counts),
      MIXED: share_above(mixed),
      POOLED: _log2(counts.pooled()),
      POOLED_MIXED: _log2(mixed.pooled()),
      RANK_LISTED: trigram_counts.rank_correlation(
        listed.effect[sure], counts.lift[sure]
      ),
      RANK_DRAWN: trigram_counts.rank_correlation(
        checked.drawn[index], plan.counts.lift
      ),
      EFFECT: np.mean(listed.effect),
      FORCED: len(forced) / len(sure),
      COPYING: np.mean(checked.copying[index]),
      POSITIVE: np.mean(checked.copying[index] > 0.0),
    }
    found[seed] = {
      name: float(value) for name, value in values.items() if np.isfinite(value)
    }
  return found


def share_above(counts: Counts) -> float:
  """The share with a lift above 1 among the testable; NaN if there is none."""
  lift = counts.lift[counts.testable]
  return float(np.mean(lift > 1.0)) if len(lift) else math.nan


def _log2(value: float) -> float:
  return math.log2(value) if value > 0.0 else math.nan
