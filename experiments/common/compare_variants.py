"""Trains variants and compares them by held-out loss.

Not a binary. `experiments.precache` and `experiments.language` define the tasks
and the claims; this module trains, evaluates, draws and reports.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common import results_writer, train_arms
from jaxlook import reporting, stats
from jaxlook.attention import Variant
from jaxlook.numerals import counted
from jaxlook.reporting.losses_figure import losses_figure
from jaxlook.stats import myopia_gap
from jaxlook.training import (
  FinishedArm,
  Problem,
  SavedArm,
  held_out_losses,
)


@dataclasses.dataclass(frozen=True)
class Ablation:
  """An experiment that trains the same variants in one or more settings.

  Attributes:
    name: the experiment's.
    title: of report and figures.
    config: the resolved config, plain data.
    problems: one for each setting.
    variants: the arms of every problem.
    unit: of the loss.
    setup: one line for figures: task, model, training.
    baselines: for a problem, the metrics of its untrained baselines by name.
    claims: for a problem and its held-out losses by variant and seed, the
      claims with their verdicts.
    predicted: names of variants outside the ladder that these claims are about;
      the others get exploratory claims.
    notes: paragraphs for the report.
    across: for the held-out losses by setting, variant and seed, claims about
      several settings.
    remarks: for the same losses, paragraphs that stand before `notes`.
    elsewhere: by name, the problem with other held-out data, on which the
      models are evaluated as well; for experiments of one problem. Its
      baselines must have metrics for each name.
  """

  name: str
  title: str
  config: Mapping[str, Any]
  problems: Sequence[Problem]
  variants: Sequence[Variant]
  unit: str
  setup: str
  baselines: Callable[[Problem], dict[str, dict[str, float]]]
  claims: Callable[[Problem, dict[str, dict[int, float]]], list[stats.Claim]]
  predicted: Sequence[str] = ()
  notes: Sequence[str] = ()
  across: Callable[
    [dict[str, dict[str, dict[int, float]]]], list[stats.Claim]
  ] = lambda values: []
  remarks: Callable[[dict[str, dict[str, dict[int, float]]]], Sequence[str]] = (
    lambda values: ()
  )
  elsewhere: Mapping[str, Problem] = dataclasses.field(default_factory=dict)


def run(plan: Ablation) -> None:
  """Trains arms that are not finished, writes the results, prints the tables.

  Args:
    plan: the experiment.

  Raises:
    UsageError: `--out` cannot hold this run, or this machine the training.
    SystemExit: the run was asked to stop; the same command continues it.
  """
  config = {
    "variants": [variant.name for variant in plan.variants],
    **plan.config,
  }
  with train_arms.open_run(plan.name, config, plan.problems) as store:
    todo = list(itertools.product(plan.problems, plan.variants))
    arms = train_arms.train_with_teachers(store, todo)
    if plan.elsewhere:
      causal = train_arms.causal_arms(arms)
      arms = [_evaluated(arm, causal, plan.elsewhere) for arm in arms]
    results_writer.write(store, _results(plan, arms))


def _evaluated(
  arm: FinishedArm,
  causal: Mapping[str, SavedArm],
  elsewhere: Mapping[str, Problem],
) -> FinishedArm:
  """Adds the losses on other held-out data to the metrics of an arm."""
  saved = arm.saved()
  teacher = causal[arm.setting] if arm.attention.needs_teacher else None
  cells = [dict(cell) for cell in arm.cells]
  for name, problem in elsewhere.items():
    losses = held_out_losses(saved, problem, teacher)
    for cell, loss in zip(cells, losses, strict=True):
      if cell["status"] == "done":
        cell["metrics"] = cell["metrics"] | named(problem.score(loss), name)
  return dataclasses.replace(arm, cells=cells)


def named(metrics: Mapping[str, float], text: str) -> dict[str, float]:
  """Metrics with the name of the held-out text added to each name."""
  return {f"{metric} on {text}": value for metric, value in metrics.items()}


def _results(
  plan: Ablation, finished: Sequence[FinishedArm]
) -> results_writer.Results:
  """Collects sections, cells and claims."""
  cells, untrained, claims, sections = [], [], [], []
  by_setting = {}
  for problem in plan.problems:
    mine = [arm for arm in finished if arm.setting == problem.setting]
    cells += [cell for arm in mine for cell in arm.cells]
    baselines = plan.baselines(problem)
    untrained += [
      {"variant": name, "seed": 0, "metrics": metrics, "status": "done"}
      | ({"setting": problem.setting} if problem.setting else {})
      for name, metrics in baselines.items()
    ]
    values = myopia_gap.by_variant(cells, "loss", problem.setting)
    by_setting[problem.setting] = values
    predicted = plan.claims(problem, values)
    exploratory = myopia_gap.exploratory_claims(
      values, plan.unit, problem.setting, but=plan.predicted
    )
    claims += [*predicted, *exploratory]
    suffix = f" ({problem.setting})" if problem.setting else ""
    tables = _tables(plan.unit, mine, baselines, predicted)
    if exploratory:
      tables["Exploratory claims"] = reporting.claim_table(exploratory)
    sections.append(
      results_writer.Section(
        heading=f"Curves{suffix}",
        figures={
          f"{problem.setting or 'losses'}.png": results_writer.Drawing(
            functools.partial(
              _draw,
              plan=plan,
              problem=problem,
              arms=mine,
              baselines=baselines,
            )
          )
        },
        notes=[myopia_gap.disjoint(values)],
        tables={f"{name}{suffix}": rows for name, rows in tables.items()},
      )
    )
  across = plan.across(by_setting)
  title = "Claims across settings"
  return results_writer.Results(
    name=plan.name,
    title=plan.title,
    setup=plan.setup,
    notes=[*plan.remarks(by_setting), *plan.notes],
    sections=sections,
    claims=[*claims, *across],
    claim_tables={title: reporting.claim_table(across)} if across else {},
    cells=[*cells, *untrained],
  )


def _draw(
  path: Path,
  plan: Ablation,
  problem: Problem,
  arms: Sequence[FinishedArm],
  baselines: Mapping[str, Mapping[str, float]],
) -> None:
  """Draws the figure of one setting."""
  cells = [cell for arm in arms for cell in arm.cells]
  losses_figure(
    path,
    curves={arm.variant: (arm.steps, arm.losses) for arm in arms},
    finals=myopia_gap.by_variant(cells, "loss", problem.setting),
    baselines={name: found["loss"] for name, found in baselines.items()},
    unit=plan.unit,
    title=", ".join(part for part in (plan.title, problem.setting) if part),
    setup=f"{plan.setup}; {counted(len(problem.seeds), 'seed')}",
  )


def _tables(
  unit: str,
  arms: Sequence[FinishedArm],
  baselines: Mapping[str, Mapping[str, float]],
  claims: Sequence[stats.Claim],
) -> dict[str, reporting.Rows]:
  """The tables of one setting by their titles."""
  cells = [cell for arm in arms for cell in arm.cells]
  setting = arms[0].setting
  diverged = myopia_gap.diverged(cells, setting)
  metrics = list(next(iter(baselines.values())))
  losses = [name for name in metrics if name.split(" on ")[0] == "loss"]
  titles = {name: f"{name}, {unit}" for name in losses}
  titles["loss_over_p"] = f"loss / p, {unit}"
  tables = {
    f"Held-out {titles.get(metric, metric.replace('_', ' '))}": (
      reporting.variant_table(
        myopia_gap.by_variant(cells, metric, setting),
        diverged,
        {name: metrics[metric] for name, metrics in baselines.items()},
      )
    )
    for metric in metrics
  }
  for name in losses:
    differences = myopia_gap.differences(
      myopia_gap.by_variant(cells, name, setting)
    )
    title = name.replace("loss", "Paired differences", 1)
    tables[title] = reporting.comparison_table(differences)
  if claims:
    tables["Claims"] = reporting.claim_table(claims)
  return tables
