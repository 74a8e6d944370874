"""What was found of induction heads: claims, tables, the figure."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxlook import reporting, stats
from jaxlook.circuits import induction_heads
from jaxlook.circuits.induction_heads import InductionResults
from jaxlook.reporting import figures
from jaxlook.stats.claims import BELOW_0, PAIRED, Statement, judged

Course = Mapping[int, InductionResults]
_OLSSON = "Olsson et al. 2022, arXiv 2209.11895"
_OURS = "jaxlook's own; not measured before, as far as we found"
_TITLES = {
  "previous": "previous token, best head",
  "prefix": "prefix matching, best head",
  "induction": "prefix matching x copying, best head",
  "copied_loss": "loss of copied tokens, nats/token",
  "accuracy": "accuracy of copied tokens",
  "in_context": "in-context score, nats/token",
}


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
    variant: induction_heads.summary(_last(course))
    for variant, course in deep.items()
  }
  one = induction_heads.summary(_last(shallow))
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


def _last(course: Course) -> InductionResults:
  return course[max(course)]


def tables(courses: Mapping[str, Course]) -> dict[str, reporting.Rows]:
  """The end of training by arm, and the step at which heads appear.

  Args:
    courses: measured along training, by arm.

  Returns:
    Tables by title; every number with its 95% t interval over n seeds.
  """
  end = [["arm", *_TITLES.values(), "n"]]
  for arm, course in courses.items():
    found = induction_heads.summary(_last(course))
    alive = np.isfinite(found["loss"])
    end.append(
      [arm, *(reporting.mean(found[name][alive]) for name in _TITLES)]
      + [str(alive.sum())]
    )
  when = [["arm", "first recorded step above 0.5, by seed"]]
  for arm, course in courses.items():
    steps = list(course)
    above = induction_heads.summary_by_step(course)["prefix"] > 0.5
    when.append([arm, ", ".join(_first(steps, seed) for seed in above.T)])
  return {
    "After training": end,
    "When the best head's prefix matching passes 0.5": when,
  }


def _first(steps: Sequence[int], above: np.ndarray) -> str:
  return str(steps[int(np.argmax(above))]) if above.any() else "never"


def figure(
  path: Path,
  courses: Mapping[str, Course],
  *,
  chance: float,
  by_distance: float,
  setup: str,
) -> None:
  """Draws scores and losses along training.

  Args:
    path: the PNG to write.
    courses: measured along training, by arm; all at the same steps.
    chance: the loss of who copies nothing, nats per token.
    by_distance: prefix matching of a head that knows only how far back the
      answer may lie.
    setup: task, model, training and seeds, in a line or two.

  Raises:
    OSError: the file cannot be written.
  """
  steps = np.array(list(next(iter(courses.values()))))
  numbers = {
    arm: induction_heads.summary_by_step(course)
    for arm, course in courses.items()
  }

  def panel(name: str, **more) -> figures.Curves:
    head, _, unit = _TITLES[name].partition(", ")
    return figures.Curves(
      head.capitalize(),
      steps,
      "training step",
      unit or "share",
      {arm: found[name] for arm, found in numbers.items()},
      **more,
    )

  figures.panels_figure(
    path,
    [
      [
        panel("previous"),
        panel("prefix", levels={"distance alone": by_distance}),
        panel("induction"),
      ],
      [
        panel("copied_loss", levels={"chance": chance}),
        panel("accuracy"),
        panel("in_context"),
      ],
    ],
    title="Heads that look ahead for others: previous token and induction",
    setup=setup,
  )


def draw_positions(
  path: Path,
  courses: Mapping[str, Course],
  *,
  chance: float,
  setup: str,
) -> None:
  """Draws how well tokens are copied, and all predicted, by position.

  Args:
    path: the PNG to write.
    courses: as of `figure`; the last step is drawn.
    chance: as of `figure`.
    setup: as of `figure`.

  Raises:
    OSError: the file cannot be written.
  """
  ends = {arm: _last(course) for arm, course in courses.items()}
  positions = np.arange(next(iter(ends.values())).losses.shape[-1])
  figures.panels_figure(
    path,
    [
      [
        figures.Curves(
          "Accuracy of copied tokens",
          positions,
          "position",
          "share",
          {arm: found.accuracies.T for arm, found in ends.items()},
          levels={"guessing": math.exp(-chance)},
        ),
        figures.Curves(
          "Loss of all tokens",
          positions,
          "position",
          "nats/token",
          {arm: found.losses.T for arm, found in ends.items()},
          levels={"guessing": chance},
        ),
      ]
    ],
    title="Copying by position",
    setup=setup,
  )
