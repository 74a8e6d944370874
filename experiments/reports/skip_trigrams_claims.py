"""The measures and claims of `skip_trigrams`, with sources and verdicts."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxlook import stats
from jaxlook.circuits import trigram_counts
from jaxlook.circuits.trigram_check import TrigramPlan, TrigramResults
from jaxlook.circuits.trigram_counts import Bugs, Counts
from jaxlook.stats.claims import ABOVE_0, PAIRED, Statement, changes, judged
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL

Measures = Mapping[str, Mapping[str, Mapping[int, float]]]

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
  LOSS,
  TESTABLE,
  LISTED,
  MIXED,
  POOLED,
  POOLED_MIXED,
  RANK_LISTED,
  RANK_DRAWN,
  EFFECT,
  FORCED,
  COPYING,
  POSITIVE,
)


def found_bugs(plan: TrigramPlan, checked: TrigramResults, seed: int) -> Bugs:
  """The false entries that true ones force into the table of one seed.

  Args:
    plan: the text and the drawn skip-trigrams.
    checked: the results.
    seed: index into the seeds.

  Returns:
    See `trigram_counts.find_bugs`.
  """
  return trigram_counts.find_bugs(
    checked.listed[seed], checked.counts[seed], plan.scale.entries
  )


def metrics(
  plan: TrigramPlan, checked: TrigramResults
) -> dict[int, dict[str, float]]:
  """The summary of every seed.

  Args:
    plan: the text and the drawn skip-trigrams.
    checked: the results.

  Returns:
    Numbers by seed and name (`MEASURES`); measures without a finite value are
    left out.
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
  """The share of testable entries with a lift above 1; NaN if none is."""
  lift = counts.lift[counts.testable]
  return float(np.mean(lift > 1.0)) if len(lift) else math.nan


def _log2(value: float) -> float:
  return math.log2(value) if value > 0.0 else math.nan


def measures(plan: TrigramPlan, found: Sequence[TrigramResults]) -> Measures:
  """The summaries by measure, variant and seed.

  Args:
    plan: the text and the drawn skip-trigrams.
    found: the results of every variant.

  Returns:
    The numbers of `metrics`, with measures as the first keys.
  """
  of = {each.variant: metrics(plan, each) for each in found}
  return {
    name: {
      variant: {
        seed: values[name] for seed, values in by_seed.items() if name in values
      }
      for variant, by_seed in of.items()
    }
    for name in MEASURES
  }


_SOURCE = "Elhage et al. 2021, transformer-circuits.pub/2021/framework"
_OWN = "jaxlook's own"
_BALANCED = 0.1


def claims(
  plan: TrigramPlan, found: Sequence[TrigramResults], untrained: str
) -> list[stats.Claim]:
  """The claims on copying, on true entries, and on what cuts change.

  Args:
    plan: the text and the drawn skip-trigrams.
    found: the results of every variant.
    untrained: the name of the control among them.

  Returns:
    Claims; none from fewer than two seeds.
  """
  return judged(_statements(measures(plan, found), untrained))


def _statements(values: Measures, untrained: str) -> list[Statement]:
  """The claims on measures by name, variant and seed."""
  return [
    *_copying_statements(values, untrained),
    Statement(
      id="trigrams/true",
      statement=f"{POOLED}: the value of {CAUSAL} minus that of the same tokens"
      " in random combinations is above 0",
      source=_SOURCE,
      unit="log2",
      values=_difference(values, (POOLED, CAUSAL), (POOLED_MIXED, CAUSAL)),
      bounds=ABOVE_0,
      pairing=PAIRED,
    ),
    Statement(
      id="trigrams/rank",
      statement=f"{RANK_DRAWN}: the value of {CAUSAL} is above 0",
      source=_SOURCE,
      unit="correlation",
      values=_values(values, RANK_DRAWN, CAUSAL),
      bounds=ABOVE_0,
    ),
    Statement(
      id="trigrams/bugs",
      statement=f"{FORCED}: {CAUSAL} minus {untrained} is above 0",
      source=_SOURCE,
      unit="share",
      values=_difference(values, (FORCED, CAUSAL), (FORCED, untrained)),
      bounds=ABOVE_0,
      pairing=PAIRED,
    ),
    *(
      Statement(
        id=f"asked/{stop}",
        statement=f"{RANK_DRAWN}: {CAUSAL} minus {variant} is above 0",
        source=_OWN,
        unit="correlation",
        values=_difference(values, (RANK_DRAWN, CAUSAL), (RANK_DRAWN, variant)),
        bounds=ABOVE_0,
        pairing=PAIRED,
      )
      for stop, variant in (("residual", RESIDUAL), ("kv", KV))
    ),
  ]


def _copying_statements(values: Measures, untrained: str) -> list[Statement]:
  """Most heads copy, and copying scores rise by training."""
  return [
    Statement(
      id="E1/majority",
      statement=f"{POSITIVE}: the value of {CAUSAL} is above 0.5 (published: 10"
      " of 12)",
      source=_SOURCE,
      unit="share",
      values=_values(values, POSITIVE, CAUSAL),
      bounds={"low": math.nextafter(0.5, 1.0)},
    ),
    Statement(
      id="E1/learned",
      statement=f"{COPYING}: {CAUSAL} minus {untrained} is above 0",
      source=_OWN,
      unit="score",
      values=_difference(values, (COPYING, CAUSAL), (COPYING, untrained)),
      bounds=ABOVE_0,
      pairing=PAIRED,
    ),
    Statement(
      id="E1/untrained",
      statement=f"{COPYING}: the value of {untrained} lies in [-{_BALANCED},"
      f" {_BALANCED}]",
      source=_OWN,
      unit="score",
      values=_values(values, COPYING, untrained),
      bounds={"low": -_BALANCED, "high": _BALANCED},
    ),
  ]


def _values(values: Measures, measure: str, variant: str) -> np.ndarray:
  """A measure of a variant, one per seed; empty if there is none."""
  return np.array(list(values[measure].get(variant, {}).values()))


def _difference(
  values: Measures, a: tuple[str, str], b: tuple[str, str]
) -> np.ndarray:
  """Measure and variant a minus measure and variant b, paired by seed."""
  first, second = (
    values[measure].get(variant, {}) for measure, variant in (a, b)
  )
  return changes(first, second)
