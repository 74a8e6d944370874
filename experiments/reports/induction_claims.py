"""The claims of `induction`: published ones, and jaxlook's on the cuts."""

from collections.abc import Mapping

import numpy as np

from jaxlook import stats
from jaxlook.circuits import induction_heads
from jaxlook.circuits.induction_heads import InductionResults
from jaxlook.stats.claims import BELOW_0, PAIRED, Statement, judged

Course = Mapping[int, InductionResults]
"""What was measured along training, by step."""

_OLSSON = "Olsson et al. 2022, arXiv 2209.11895"
_OURS = "jaxlook's own; not measured before, as far as we found"


def claims(
  deep: Mapping[str, Course], shallow: Course, plain: str
) -> list[stats.Claim]:
  """The published claims, and claims on the cut variants.

  Args:
    deep: results along training of models with two or more layers, by variant.
    shallow: results along training of models with one layer.
    plain: the variant of ordinary training.

  Returns:
    The claims with at least two seeds.
  """
  last = {
    variant: induction_heads.summary(last_step(course))
    for variant, course in deep.items()
  }
  one = induction_heads.summary(last_step(shallow))
  made = _published(deep[plain], last[plain], one)
  for variant, cut in last.items():
    if variant != plain:
      made += _of_cut(variant, cut, last[plain])
  return judged(made)


def _published(
  course: Course,
  last: Mapping[str, np.ndarray],
  one: Mapping[str, np.ndarray],
) -> list[Statement]:
  """On ordinary training: heads, their phase change, and one layer."""
  numbers = induction_heads.summary_by_step(course)
  steps = np.array(list(course))
  change = induction_heads.phase_change(steps, numbers["in_context"])
  heads = induction_heads.step_reached(steps, numbers["prefix"], 0.5)
  figure = f"{_OLSSON}, read off a figure"
  return [
    Statement(
      "O2/deep",
      "the best head's prefix matching is at least 0.7",
      figure,
      "share of attention",
      last["prefix"],
      {"low": 0.7},
    ),
    Statement(
      "O2/one",
      "with one layer the best head's prefix matching is at most 0.1",
      figure,
      "share of attention",
      one["prefix"],
      {"high": 0.1},
    ),
    Statement(
      "O1/phase",
      "the in-context score changes abruptly: going from 10% to 90% of its"
      " whole change takes less time than passed before; the estimate is the"
      " ratio of the two times, below 1",
      f"{_OLSSON}; the measure is jaxlook's",
      "ratio of steps",
      change.abruptness,
      {"high": 1.0},
    ),
    Statement(
      "O2/window",
      "heads begin to match prefixes in the same window: the estimate is where"
      " the best prefix score has made half of its rise, on a scale from 0,"
      " where 10% of the change of the in-context score is made, to 1, where"
      " 90% is made",
      f"{_OLSSON}; the measure is jaxlook's",
      "share of the window",
      (heads - change.start) / (change.end - change.start),
      {"low": 0.0, "high": 1.0},
    ),
    Statement(
      "O1/one",
      "context helps less with one layer; the estimate is the in-context score"
      " of the deeper model minus that of one layer, below 0",
      _OLSSON,
      "nats/token",
      last["in_context"] - one["in_context"],
      BELOW_0,
      PAIRED,
    ),
  ]


def _of_cut(
  variant: str,
  cut: Mapping[str, np.ndarray],
  plain: Mapping[str, np.ndarray],
) -> list[Statement]:
  """Whether a variant that blocks gradient forms the heads, and how well."""
  return [
    Statement(
      f"{variant}/forms",
      f"{variant} forms induction heads: the best head's prefix matching is at"
      " least 0.7",
      _OURS,
      "share of attention",
      cut["prefix"],
      {"low": 0.7},
    ),
    Statement(
      f"{variant}/less",
      f"{variant} minus ordinary training: the best head's prefix matching is"
      " lower",
      _OURS,
      "share of attention",
      cut["prefix"] - plain["prefix"],
      BELOW_0,
      PAIRED,
    ),
    Statement(
      f"{variant}/previous",
      f"{variant} minus ordinary training: the best head's previous score is"
      " lower",
      _OURS,
      "share of attention",
      cut["previous"] - plain["previous"],
      BELOW_0,
      PAIRED,
    ),
  ]


def last_step(course: Course) -> InductionResults:
  """The results after training."""
  return course[max(course)]
