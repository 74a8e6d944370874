"""The report of `induction`: tables and figures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.common import results_writer
from experiments.reports.induction_claims import Course, claims, last_step
from experiments.setups import induction_setup
from experiments.setups.induction_setup import InductionConfig
from jaxlook import reporting
from jaxlook.circuits import induction_heads
from jaxlook.numerals import counted
from jaxlook.reporting import figures
from jaxlook.stats import myopia_gap
from jaxlook.training import FinishedArm

_TITLES = {
  "previous": "previous token, best head",
  "prefix": "prefix matching, best head",
  "induction": "prefix matching x copying, best head",
  "copied_loss": "loss of copied tokens, nats/token",
  "accuracy": "accuracy of copied tokens",
  "in_context": "in-context score, nats/token",
}


NOTES = (
  "The copied token lies at one of the distances that the gap allows. So a head"
  " that knows only these distances also has a prefix score: one over their"
  " number, the line in the figure. The sequences for measuring are new, with"
  " gaps as in training.",
  "Rotary positions, 64 tokens and segments of 24 tokens were chosen after"
  " pilots. With learned positions and segments of 16 of 32 tokens, ordinary"
  " training copied as well (accuracy 0.99), but three of four seeds did so"
  " without prefix matching (best head 0.16 [-0.25, 0.56], n = 4): there, keys"
  " that mix several recent tokens work as well. So whether such heads form"
  " depends on the setting; the question here is how a cut changes them.",
  results_writer.UNADJUSTED,
)


def results(
  config: InductionConfig,
  arms: Sequence[FinishedArm],
  courses: Sequence[Course],
) -> results_writer.Results:
  """Collects claims, tables, figures and cells.

  Args:
    config: the scale.
    arms: the arms, the control of one layer first.
    courses: what was measured along training, by arm.

  Returns:
    The results to write.
  """
  low, high = config.task().distances
  by_arm = {
    arm.setting or arm.variant: course
    for arm, course in zip(arms, courses, strict=True)
  }
  shallow, *deep = by_arm
  return results_writer.Results(
    name="induction",
    title="Induction heads with and without the future's gradient",
    setup=induction_setup.setup(config),
    notes=(
      f"A token of the first segment is needed {low} to {high} positions"
      " later. With a shorter horizon, no query sends gradient within one layer"
      " to the token that it copies. The previous-token head needs a horizon of"
      " at least 1.",
      *NOTES,
    ),
    figures=_drawings(config, by_arm),
    tables=tables(by_arm),
    claims=claims(
      {name: by_arm[name] for name in deep},
      by_arm[shallow],
      myopia_gap.CAUSAL,
    ),
    cells=[
      cell
      for arm, course in zip(arms, courses, strict=True)
      for cell in results_writer.arm_cells(
        arm, induction_heads.summary(last_step(course))
      )
    ],
  )


def _drawings(
  config: InductionConfig, courses: Mapping[str, Course]
) -> dict[str, results_writer.Drawing]:
  """The figures by file name."""
  chance = config.task().chance
  setup = f"{induction_setup.setup(config)}; {counted(config.seeds, 'seed')}"
  by_distance = 1 / (config.max_gap + 1)
  return {
    "heads.png": results_writer.Drawing(
      lambda path: figure(
        path, courses, chance=chance, by_distance=by_distance, setup=setup
      ),
      "Scores of the best head of each model, and the loss and accuracy of the"
      " model, along training; mean and 95% t band over seeds. Step 0 is before"
      " training.",
    ),
    "positions.png": results_writer.Drawing(
      lambda path: draw_positions(path, courses, chance=chance, setup=setup),
      "After training: accuracy of copied tokens, and loss of all tokens, by"
      " position; mean and 95% t band over seeds.",
    ),
  }


def tables(courses: Mapping[str, Course]) -> dict[str, reporting.Rows]:
  """The end of training by arm, and the step at which heads appear.

  Args:
    courses: measured along training, by arm.

  Returns:
    Tables by title; every number has its 95% t interval over n seeds.
  """
  end = [["arm", *_TITLES.values(), "n"]]
  for arm, course in courses.items():
    found = induction_heads.summary(last_step(course))
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
    chance: the loss of a model that copies nothing, nats per token.
    by_distance: prefix score of a head that knows only how far back the answer
      may be.
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
    title="Previous-token heads and induction heads along training",
    setup=setup,
  )


def draw_positions(
  path: Path,
  courses: Mapping[str, Course],
  *,
  chance: float,
  setup: str,
) -> None:
  """Draws accuracy of copied tokens and loss of all tokens by position.

  Args:
    path: the PNG to write.
    courses: see `figure`; the last step is drawn.
    chance: see `figure`.
    setup: see `figure`.

  Raises:
    OSError: the file cannot be written.
  """
  ends = {arm: last_step(course) for arm, course in courses.items()}
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
