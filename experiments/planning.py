"""Do models plan a rhyme at the line break, and who asks them to?

    python -m experiments.planning [--preset=smoke|cpu|paper] [--out=DIR]
        [--key=lookup|tally] [--language=ROUTE[/end_only][/late_genre]]
        [--p=0.75] [--pairs=K] [--attention=... (repeatable)]

Trains causal and both myopic cuts on couplets (`jaxlook.tasks.couplets`), a
language in which it is known what must be planned, where, and what it is worth
in nats. Reports per language and variant the loss by class of positions beside
the exact loss of a planner, an improviser and a blind reader; whether lines
that the model writes rhyme and hold together; the beam gain; a linear probe for
the rhyme at every place of few positions; and the causal tests: what m1, the
article, e2 and the written line become when the state at one place is replaced
by another couplet's, or steered from one rhyme family to another, and what is
lost when line 2 may no longer look at a place.

`--key=lookup` (default; 19 minutes on two cores) trains three languages:
the class of e1 is the key, with an open route, with a bottleneck at the line
break, and end-only, where improvising is all there is to learn, so that it is
trained without cuts. `--language=bottleneck/late_genre --p=0.25,0.75` has the
genre come after the line break. `--key=tally` has the key spread over K pairs
of line 1 and takes half an hour. As every run it can be interrupted and goes on
with the same command.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
from absl import flags

from experiments.common import (
  app,
  couplets_setup,
  results_writer,
  train_arms,
  training_flags,
)
from experiments.common.couplets_setup import CoupletsConfig
from experiments.common.study import Study
from experiments.reports import planning as couplets_report
from experiments.reports import planning_claims as couplets_claims
from jaxlook.attention import Variant
from jaxlook.planning.couplets.measure_all import (
  HeldOutCouplets,
  NamedValues,
  measure_all,
  measure_probes,
  named_probe_values,
  named_values,
)
from jaxlook.runs.store import Store
from jaxlook.stats import myopia_gap
from jaxlook.tasks.couplets import Couplets
from jaxlook.training import FinishedArm, Problem, read_arm

flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(couplets_setup)
flags.declare_key_flag("p")

NOTES = (
  "moved / left: how far what the model expects has come from a planner of the"
  " couplet's own class to one of the donor's, in total variation; full"
  " transfer is 1 / 0, none 0 / 1. `none` is no swap, so what it reads is the"
  " models' own distance from planners; `prompt` at layer 0 is the donor's own"
  " prompt. A model that does not plan is far from both planners without any"
  " swap; the figure shows the shift from what the unchanged model expects."
  " Written lines are greedy.",
  "A probe tells that the class is there, a swap that it is used from there.",
  "Verdicts are of each claim by itself, without adjustment for their number.",
)


def study_language(
  problem: Problem, arms: Sequence[FinishedArm], held_out: HeldOutCouplets
) -> tuple[dict[str, NamedValues], NamedValues]:
  """Examines the arms of one language, and their seeds before training."""
  task = cast(Couplets, problem.task)
  found = {}
  for arm in arms:
    saved = read_arm(arm.root)
    found[arm.variant] = named_values(
      task,
      measure_all(
        *(saved.decoder, task, saved.params(), held_out),
        alive=[cell["status"] == "done" for cell in arm.cells],
        key=jax.random.key(0),
      ),
    )
  first = read_arm(arms[0].root)
  fresh = measure_probes(first.decoder, task, first.params(0), held_out)
  return found, named_probe_values(task, fresh)


def main() -> None:
  """Checks the flags, trains what is missing, examines and reports."""
  config = couplets_setup.build_config()
  if config.layers < 2:
    raise app.UsageError(
      "layers", "must be at least 2: one to store, one to use"
    )
  problems = [
    couplets_setup.problem(language, config) for language in config.languages
  ]
  variants = train_arms.variants_that_only_cut(
    [myopia_gap.RESIDUAL, myopia_gap.KV], problems[0].model
  )
  study = Study(
    name="planning",
    title="Planning a rhyme at the line break",
    problem=problems[0],
    variants=variants,
    config={"experiment": "planning", **dataclasses.asdict(config)},
    setup=couplets_setup.setup(config),
    unit="nats/token",
    source="",
  )
  with study.open_run() as store:
    arms = train_arms.train_all(store, todo(problems, variants))
    results_writer.write(store, results(store, study, config, problems, arms))


def todo(
  problems: Sequence[Problem], variants: Sequence[Variant]
) -> list[tuple[Problem, Variant]]:
  """The arms: in end-only languages, unless asked for, no cut."""
  return [
    (problem, variant)
    for problem, variant in itertools.product(problems, variants)
    if variant.name == myopia_gap.CAUSAL
    or training_flags.ATTENTION.value
    or not cast(Couplets, problem.task).end_only
  ]


def results(
  store: Store,
  study: Study,
  config: CoupletsConfig,
  problems: Sequence[Problem],
  arms: Sequence[FinishedArm],
) -> results_writer.Results:
  """Claims, tables and a figure of every language."""
  claims, tables, figures, cells, every = [], {}, {}, [], {}
  for problem in problems:
    name, task = problem.setting, cast(Couplets, problem.task)
    mine = [arm for arm in arms if arm.setting == name]
    found, fresh = study_language(
      problem, mine, couplets_setup.couples(task, config)
    )
    every[name] = found
    claims += couplets_claims.claims(name, task, found, fresh)
    tables |= {
      f"{name}: {title}": rows
      for title, rows in couplets_report.tables(
        task, found, fresh, config.layers
      ).items()
    }
    file = f"{'-'.join(name.replace('/', ' ').split())}.png"
    couplets_report.figure(
      *(store.figures / file, task, found),
      title=f"Planning: {task.key}, {name}",
      setup=f"{couplets_setup.setup(config)}; p = {task.p:g};"
      f" {config.seeds} seeds",
    )
    figures[file] = f"{name}: mean and 95% t band over {config.seeds} seeds."
    cells += [
      cell | more(cell, found[arm.variant], place)
      for arm in mine
      for place, cell in enumerate(arm.cells)
    ]
  return results_writer.Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    claims=claims,
    tables=tables,
    figures=figures,
    cells=cells,
    measurements=couplets_report.measurements(every, range(config.seeds)),
    notes=NOTES,
  )


def more(
  cell: Mapping[str, Any], found: NamedValues, place: int
) -> dict[str, Any]:
  """A cell's metrics with losses and what it writes."""
  if cell["status"] != "done":
    return {}
  added = {
    name: float(values[place])
    for name, values in found.items()
    if name.startswith(("loss/RHY", "write"))
  }
  return {"metrics": cell["metrics"] | added}


if __name__ == "__main__":
  app.run(main)
