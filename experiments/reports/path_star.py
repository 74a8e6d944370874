"""The report of `path_star`: notes, figures and measurements."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.common import results_writer
from experiments.reports.path_star_claims import (
  Every,
  numbers,
  statements,
)
from experiments.reports.path_star_tables import each_arm, tables
from experiments.setups import path_star_setup
from experiments.setups.path_star_setup import PathStarConfig
from jaxlook.numerals import counted
from jaxlook.planning.stars.settings import (
  FORCED_GRAPHS,
  GraphResults,
)
from jaxlook.reporting import figures
from jaxlook.stats.claims import judged
from jaxlook.training import FinishedArm

NOTES = (
  "A path is written greedily: the model reads each step that it has written"
  " before it writes the next. A model of a teacherless setting never read its"
  " answer in training and writes all steps at once. For masked training,"
  " accuracy is measured with nothing hidden.",
  "Accuracies given the true earlier steps are measured on"
  f" {FORCED_GRAPHS:,} separate graphs or, in weights, on all held-out leaves."
  " Claims on written paths use the same accuracies, because greedy decoding"
  " gets a path right exactly if all steps are right given the true earlier"
  " ones. Losses, beams, probes, swaps and the columns named `written` use"
  " fewer graphs (`sequences` in the config).",
  "`goal` donors have the same graph and ask for another goal, so a swap before"
  " the goal cannot move anything. `leaves` donors ask for the same goal, with"
  " the leaves of two arms exchanged in the edges. Moved is the share of"
  " answers that become the donor's; left is the share of answers that are"
  " still the true one. A model that guesses among arms sometimes writes the"
  " donor's path by chance; `before the goal` shows how often. A swap at the"
  " goal before block 0 only replaces the input: this is a ceiling, and there"
  " is no claim on it.",
  "In weights the output matrix is the token embedding (a tied head). In pilots"
  " without a tied head, ordinary training learned no held-out path (G(256, 4):"
  " first step 0.00 after 2,000 steps, n = 1, and 0.41 with a tied head, n = 1;"
  " the former also had more weight decay).",
  results_writer.UNADJUSTED,
)


def results(
  config: PathStarConfig,
  arms: Sequence[FinishedArm],
  found: Sequence[GraphResults],
) -> results_writer.Results:
  """Collects claims, tables, figures, cells and measurements.

  Args:
    config: the scale.
    arms: the trained arms.
    found: results by arm.

  Returns:
    The results to write.
  """
  setup = path_star_setup.setup(config)
  every: dict[str, dict[str, GraphResults]] = {}
  cells = []
  for arm, each in zip(arms, found, strict=True):
    every.setdefault(arm.setting, {})[arm.variant] = each
    cells += results_writer.arm_cells(arm, numbers(each))
  return results_writer.Results(
    name="path_star",
    title="Path-star graphs with and without the future's gradient",
    setup=setup,
    notes=NOTES,
    figures=drawings(every, f"{setup}; {counted(config.seeds, 'seed')}"),
    tables=tables(every),
    claims=judged(statements(every)),
    cells=cells,
    measurements=measurements(every, config.seed_range),
  )


def measurements(every: Every, seeds: Sequence[int]) -> pa.Table:
  """Every number, one per row.

  Args:
    every: all results.
    seeds: the seeds of the axis E.

  Returns:
    Columns setting, variant, leaves ("held out", "trained", "untrained model"),
    seed, measure, place, layer, step and value; null if a measure has no such
    axis. The last step of `forced`, `moved` and `left` is the whole answer.
  """
  names = "setting variant leaves seed measure place layer step value".split()
  rows = list(_measured(every, seeds))
  return pa.table(
    dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
  )


def _measured(every: Every, seeds: Sequence[int]) -> Iterator[tuple[Any, ...]]:
  for setting, variant, found in each_arm(every):
    for leaves, answers in (
      ("held out", found.answers._asdict() | {"forced": found.forced}),
      ("trained", {} if found.seen is None else {"correct": found.seen}),
      ("untrained model", found.untrained._asdict()),
    ):
      for measure, array in answers.items():
        for (seed, *at), value in np.ndenumerate(array):
          place = layer = step = None
          if len(at) == 3:
            place, layer, step = found.places[at[0]], at[1], at[2] + 1
          elif at and ("probe" in measure or "shuffled" in measure):
            layer = at[0]
          elif at:
            step = at[0] + 1
          which = (setting, variant, leaves, seeds[seed], measure)
          if np.isfinite(value):
            yield *which, place, layer, step, float(value)


def drawings(every: Every, setup: str) -> dict[str, results_writer.Drawing]:
  """Accuracies and losses.

  Args:
    every: all results.
    setup: task, model, training and seeds, in a line or two.

  Returns:
    What to draw, by file name.
  """
  return {
    "accuracy.png": results_writer.Drawing(
      lambda path: figures.panels_figure(
        path,
        [[_by_setting(every, name) for name in ("first_step", "path_written")]],
        title="Path-star graphs: the first step needs the whole path",
        setup=setup,
      ),
      "Accuracy of the step that leaves the start, given the true earlier"
      " steps, and of whole paths written greedily, on graphs or leaves that"
      " are not in the training data; mean and 95% t interval over seeds.",
    ),
    "losses.png": results_writer.Drawing(
      lambda path: figures.panels_figure(
        path,
        [[_by_step(setting, by) for setting, by in every.items()]],
        title="Path-star graphs: loss by step of the answer",
        setup=setup,
      ),
      "Loss by step given the true earlier steps; mean and 95% t band over"
      " seeds. The grey line is the mean loss of Clever Hans, who only follows"
      " edges and guesses the first step.",
    ),
  }


def _by_setting(every: Every, name: str) -> figures.Curves:
  variants = dict.fromkeys(variant for _, variant, _ in each_arm(every))
  seeds = len(next(each_arm(every))[2].answers.whole)
  nothing = np.full(seeds, np.nan)
  levels = {f"1/{round(1 / x)}": x for x in _chances(every)}
  return figures.Curves(
    name.replace("_", " "),
    [setting.replace(" ", "\n") for setting in every],
    "setting",
    "accuracy",
    {
      variant: np.stack(
        [
          numbers(by[variant])[name] if variant in by else nothing
          for by in every.values()
        ]
      )
      for variant in variants
    },
    levels=levels,
    scale="steps",
  )


def _chances(every: Every) -> list[float]:
  return list(dict.fromkeys(found.chance for _, _, found in each_arm(every)))


def _by_step(setting: str, by: Mapping[str, GraphResults]) -> figures.Curves:
  levels = next(iter(by.values())).clever_hans
  return figures.Curves(
    setting,
    np.arange(1, len(levels) + 1),
    "step of the answer",
    "nats",
    {variant: found.answers.losses.T for variant, found in by.items()},
    levels={"Clever Hans, mean": float(levels.mean())},
    scale="steps",
  )
