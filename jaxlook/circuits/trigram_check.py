"""The skip-trigrams of all seeds of a variant, held against the text.

What is listed was chosen by the weights alone; the text only says how often
each token occurs. Two controls need no other model: the listed tokens in random
combinations, and skip-trigrams drawn from the text instead of from the table,
whose effects on the model may be of either sign.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.circuits import skip_trigrams, trigram_counts
from jaxlook.circuits.qk_ov import full_ov
from jaxlook.circuits.skip_trigrams import Trigrams
from jaxlook.circuits.trigram_counts import Bugs, Counts
from jaxlook.lookahead.interventions import forward_only
from jaxlook.models import Decoder

LISTED = "listed with lift > 1, share"
MIXED = "in random combinations with lift > 1, share"
RANK_LISTED = "rank correlation of effect and lift, listed"
RANK_DRAWN = "rank correlation of effect and lift, drawn from the text"
EFFECT = "mean effect of the listed, logits"
FORCED = "forced and never true, share of the listed"
COPYING = "mean copying score of the heads"
POSITIVE = "heads with a positive copying score, share"


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is listed and what it is held against.

  Attributes:
    tokens: held-out text to measure the last LayerNorm on, integer [B, T].
    windows: the text to count in, integer [W, T + 1].
    probability: of every token in it, [V].
    floor: tokens below this probability are not listed.
    sources: sources listed for each head.
    entries: destinations and outputs listed for each source, M.
    drawn: source, destination and output of skip-trigrams of the text,
      integer [3, R].
    counts: of those.
  """

  tokens: np.ndarray
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
  """

  variant: str
  seeds: tuple[int, ...]
  listed: Sequence[Trigrams]
  counts: Sequence[Counts]
  mixed: Sequence[Counts]
  drawn: np.ndarray
  copying: np.ndarray


def make_plan(
  tokens: np.ndarray,
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
    tokens: held-out text to measure the last LayerNorm on, integer [B, T].
    windows: the text to count in, integer [W, T + 1].
    vocab_size: number of token ids, V.
    floor: tokens below this probability are not listed.
    sources: sources to list for each head.
    entries: destinations and outputs to list for each source, M.
    drawn: skip-trigrams to draw from the text.

  Returns:
    The plan. A drawn one has a destination and an output that follow each other
    at a random position, and a source that is a random token of the text.

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
  window = rng.integers(len(windows), size=(2, drawn))
  place = rng.integers(windows.shape[1] - 1, size=(2, drawn))
  source, destination = windows[window, place]
  triples = np.stack([source, destination, windows[window[1], place[1] + 1]])
  counts = trigram_counts.count(windows, *triples)
  return Plan(
    *(tokens, windows, probability, floor, sources, entries, triples, counts)
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
  listed, drawn = _read(
    # Variants that only cut gradient are one function, and one program.
    forward_only(decoder),
    params,
    jnp.asarray(plan.tokens),
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
  )


@functools.partial(jax.jit, static_argnums=(0, 5))
@functools.partial(jax.vmap, in_axes=(None, 0, None, None, None, None))
def _read(
  decoder: Decoder,
  params: Any,
  tokens: jax.Array,
  probability: jax.Array,
  drawn: jax.Array,
  sizes: tuple[float, int, int],
) -> tuple[Trigrams, jax.Array]:
  """What is listed of one seed, and the effect of what was drawn."""
  floor, sources, entries = sizes
  circuits = skip_trigrams.head_circuits(
    decoder, params, tokens, probability, floor=floor
  )
  table = skip_trigrams.table(circuits, entries)
  look, write = skip_trigrams.parts(circuits, *drawn)
  return (
    skip_trigrams.listed(table, circuits.kept, sources),
    jnp.sum(look * write, axis=0),
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
    Numbers by seed and name: shares of entries with a lift above 1, rank
    correlations of effect and lift, forced entries, and copying scores.
  """
  found = {}
  for index, seed in enumerate(checked.seeds):
    listed, counts = checked.listed[index], checked.counts[index]
    forced = found_bugs(plan, checked, index).forced
    found[seed] = {
      LISTED: float(np.mean(counts.lift > 1.0)),
      MIXED: float(np.mean(checked.mixed[index].lift > 1.0)),
      RANK_LISTED: trigram_counts.rank_correlation(listed.effect, counts.lift),
      RANK_DRAWN: trigram_counts.rank_correlation(
        checked.drawn[index], plan.counts.lift
      ),
      EFFECT: float(np.mean(listed.effect)),
      FORCED: len(forced) / len(counts.lift),
      COPYING: float(np.mean(checked.copying[index])),
      POSITIVE: float(np.mean(checked.copying[index] > 0.0)),
    }
  return found
