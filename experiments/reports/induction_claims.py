"""What is claimed of induction heads: published, and of the cuts."""

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
  """The published claims, and those of the cut variants.

  Args:
    deep: measured along training, of two layers or more, by variant.
    shallow: of one layer.
    plain: the variant of ordinary training.

  Returns:
    Those for which at least two seeds are there.
  """
  last = {
    variant: induction_heads.summary(last_step(course))
    for variant, course in deep.items()
  }
  one = induction_heads.summary(last_step(shallow))
  made = _published(deep[plain], last[plain], one)
  for variant, mine in last.items():
    if variant != plain:
      made += _of_cut(variant, mine, last[plain])
  return judged(made)


def _published(
  course: Course,
  last: Mapping[str, np.ndarray],
  one: Mapping[str, np.ndarray],
) -> list[Statement]:
  """Of ordinary training: heads, their phase change, and one layer."""
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
      "the in-context score changes at once: from a tenth to nine tenths of its"
      " whole change in less time than passes before, a ratio below 1",
      f"{_OLSSON}; the measure is jaxlook's",
      "ratio of steps",
      change.abruptness,
      {"high": 1.0},
    ),
    Statement(
      "O2/window",
      "heads come to match prefixes in the same window: half of their rise"
      " lies between 0, where a tenth of the in-context score is gained, and 1,"
      " where nine tenths are",
      f"{_OLSSON}; the measure is jaxlook's",
      "share of the window",
      (heads - change.start) / (change.end - change.start),
      {"low": 0.0, "high": 1.0},
    ),
    Statement(
      "O1/one",
      "context helps less with one layer: the estimate is the in-context score"
      " minus that of one layer, below 0",
      _OLSSON,
      "nats/token",
      last["in_context"] - one["in_context"],
      BELOW_0,
      PAIRED,
    ),
  ]


def _of_cut(
  variant: str,
  mine: Mapping[str, np.ndarray],
  plain: Mapping[str, np.ndarray],
) -> list[Statement]:
  """What a variant that blocks gradient forms, and what it lacks."""
  return [
    Statement(
      f"{variant}/forms",
      f"{variant} forms induction heads: the best head's prefix matching is at"
      " least 0.7",
      _OURS,
      "share of attention",
      mine["prefix"],
      {"low": 0.7},
    ),
    Statement(
      f"{variant}/less",
      f"{variant} minus ordinary training: the best head matches prefixes less",
      _OURS,
      "share of attention",
      mine["prefix"] - plain["prefix"],
      BELOW_0,
      PAIRED,
    ),
    Statement(
      f"{variant}/previous",
      f"{variant} minus ordinary training: the best previous-token head scores"
      " less",
      _OURS,
      "share of attention",
      mine["previous"] - plain["previous"],
      BELOW_0,
      PAIRED,
    ),
  ]


def last_step(course: Course) -> InductionResults:
  """What was measured after training."""
  return course[max(course)]
