"""What skip-trigrams say: claims and panels."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxlook import stats
from jaxlook.circuits import trigram_counts
from jaxlook.circuits.trigram_check import TrigramPlan, TrigramResults
from jaxlook.circuits.trigram_counts import Bugs, Counts
from jaxlook.reporting.figures import Curves, Scatter
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
  *(LOSS, TESTABLE, LISTED, MIXED, POOLED, POOLED_MIXED, RANK_LISTED),
  *(RANK_DRAWN, EFFECT, FORCED, COPYING, POSITIVE),
)


def found_bugs(plan: TrigramPlan, checked: TrigramResults, seed: int) -> Bugs:
  """The entries that factoring forced into the table of one seed.

  Args:
    plan: what was listed.
    checked: the findings.
    seed: index into the seeds.

  Returns:
    See `trigram_counts.bugs`.
  """
  return trigram_counts.find_bugs(
    checked.listed[seed], checked.counts[seed], plan.scale.entries
  )


def metrics(
  plan: TrigramPlan, checked: TrigramResults
) -> dict[int, dict[str, float]]:
  """The summary of every seed.

  Args:
    plan: what was listed.
    checked: the findings.

  Returns:
    Numbers by seed and name, of `MEASURES`; those that the text
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


def measures(plan: TrigramPlan, found: Sequence[TrigramResults]) -> Measures:
  """The summaries by measure, variant and seed.

  Args:
    plan: what was listed.
    found: what was found of every variant.

  Returns:
    The numbers of `trigram_metrics`, measures first.
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
_CUT = 2.0
NOTES = (
  "An entry's effect is its QK part, the attention that the destination pays to"
  " the source among half a window of typical tokens, times its OV part, the"
  " rise of the output's logit for an attention of 1. Listed are, for each head"
  " and each of its strongest sources, the strongest destinations with the"
  " strongest outputs: chosen by the weights, not by the text. A source is not"
  " its own destination: a head that looks at the token itself makes bigrams.",
  "The lift is how often an entry is true in the text over how often it would"
  " be if the source did not matter; for single entries one event is added to"
  " both. The text can tell of an entry where it expects five events or more;"
  " many it cannot, for a head does not know which outputs follow a"
  " destination: that is the direct path's. Random combinations are of the same"
  " sources, destinations and outputs.",
  "Verdicts are of each claim by itself; the table of paired differences"
  " adjusts its p-values for all that it holds.",
  "A bug is an entry that never occurs in the counted text although its"
  " destination comes after its source at least 100 times, and that the head"
  " cannot help: another entry of the same source has its destination, a third"
  " one its output, and both are true. What the direct path adds to the logits"
  " can make up for it.",
  "With positive and negative eigenvalues in balance the copying score is 0;"
  " eigenvectors need not be orthogonal, so it is no proof of copying.",
)


def claims(
  plan: TrigramPlan, found: Sequence[TrigramResults], untrained: str
) -> list[stats.Claim]:
  """Copying, truth of the tables, and what the future had to ask for.

  Args:
    plan: what was listed.
    found: what was found of every variant.
    untrained: the name of the control among them.

  Returns:
    Claims; none from fewer than two seeds.
  """
  return judged(_statements(measures(plan, found), untrained))


def _statements(
  values: Mapping[str, Mapping[str, Mapping[int, float]]], untrained: str
) -> list[Statement]:
  """What is claimed: measures by name, variant and seed, or differences."""
  copying, drawn = COPYING, RANK_DRAWN

  def tell(id, measure, words, source, unit, bounds, of=CAUSAL, minus=None):
    mine = values[measure].get(of, {})
    words = f"{measure}: {words}"
    if minus is None:
      alone = np.array(list(mine.values()))
      return Statement(id, words, source, unit, alone, bounds)
    less, variant = minus
    change = changes(mine, values[less].get(variant, {}))
    return Statement(id, words, source, unit, change, bounds, PAIRED)

  return [
    tell(
      *("E1/majority", POSITIVE),
      f"{CAUSAL}'s is above 0.5 (published: 10 of 12)",
      *(_SOURCE, "share", {"low": math.nextafter(0.5, 1.0)}),
    ),
    tell(
      *("E1/learned", copying, f"{CAUSAL} minus {untrained} is above 0"),
      *(_OWN, "score", ABOVE_0),
      minus=(copying, untrained),
    ),
    tell(
      *("E1/untrained", copying),
      f"{untrained}'s lies in -{_BALANCED}..{_BALANCED}",
      *(_OWN, "score", {"low": -_BALANCED, "high": _BALANCED}),
      of=untrained,
    ),
    tell(
      *("trigrams/true", POOLED),
      f"{CAUSAL}'s, less that of the same tokens in random combinations, is"
      " above 0",
      *(_SOURCE, "log2", ABOVE_0),
      minus=(POOLED_MIXED, CAUSAL),
    ),
    tell(
      *("trigrams/rank", drawn, f"{CAUSAL}'s is above 0"),
      *(_SOURCE, "correlation", ABOVE_0),
    ),
    tell(
      *("trigrams/bugs", FORCED),
      f"{CAUSAL} minus {untrained} is above 0",
      *(_SOURCE, "share", ABOVE_0),
      minus=(FORCED, untrained),
    ),
    *(
      tell(
        *(f"asked/{stop}", drawn, f"{CAUSAL} minus {variant} is above 0"),
        *(_OWN, "correlation", ABOVE_0),
        minus=(drawn, variant),
      )
      for stop, variant in (("residual", RESIDUAL), ("kv", KV))
    ),
  ]


def panels(
  plan: TrigramPlan, found: Sequence[TrigramResults]
) -> list[list[Curves | Scatter]]:
  """Both parts of the first model's table, and how true all models' are.

  Args:
    plan: what was listed.
    found: what was found of every variant.

  Returns:
    Two rows of two panels.
  """
  first, counts = found[0].listed[0], found[0].counts[0]
  sure = counts.testable
  return [
    [
      Scatter(
        title=f"Skip-trigrams listed of {found[0].variant}, one seed",
        x=first.look[sure],
        y=first.write[sure],
        values=np.clip(np.log2(counts.lift[sure]), -_CUT, _CUT),
        xlabel="QK part: attention of the destination to the source",
        ylabel="OV part: rise of the output's logit",
        unit=f"log2 of the lift in the text, cut at {_CUT:g}",
      ),
      Curves(
        title="Entries that hold in the text: lift above 1",
        x=["listed", "random combinations"],
        xlabel="the same tokens, as in the table or not",
        ylabel="share of those that the text can tell of",
        curves={
          each.variant: np.array(
            [
              [share_above(one) for one in each.counts],
              [share_above(one) for one in each.mixed],
            ]
          )
          for each in found
        },
        scale="steps",
      ),
    ],
    [_calibration(plan, found), _copying_curves(found)],
  ]


def _calibration(plan: TrigramPlan, found: Sequence[TrigramResults]) -> Curves:
  """The text's lift along the models' effect, in tenths."""

  def by_tenth(effect: np.ndarray) -> list[float]:
    tenths = np.array_split(np.argsort(effect, kind="stable"), 10)
    return [plan.counts.some(tenth).pooled() for tenth in tenths]

  return Curves(
    title="Skip-trigrams drawn from the text",
    x=np.arange(1, 11),
    xlabel="tenth, by the effect in the model",
    ylabel="lift of the tenth in the text",
    curves={
      each.variant: np.array([by_tenth(one) for one in each.drawn]).T
      for each in found
    },
    levels={"no lift": 1.0},
    scale="steps",
  )


def _copying_curves(found: Sequence[TrigramResults]) -> Curves:
  return Curves(
    title="Copying scores of the heads",
    x=np.arange(1, found[0].copying.shape[1] + 1),
    xlabel="head, by its score in its model",
    ylabel="sum of eigenvalues / sum of their moduli",
    curves={each.variant: -np.sort(-each.copying, axis=1).T for each in found},
    levels={"balanced": 0.0},
    scale="steps",
  )
