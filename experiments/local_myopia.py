"""What does the present gain when a network owes nothing to the future?

    python -m experiments.local_myopia [--task=precache|text] [--preset=...]
        [--out=DIR]

Trains a vanilla model, freezes it, and trains a local myopic model of the same
shape from scratch that reads the vanilla model's keys and values as its
context, for both stop points. Writes the local myopia bonus beside the myopia
gap, and the losses of both models' weights on both models' contexts.
"""

from collections.abc import Collection

import numpy as np
from absl import flags

from experiments.common import (
  app,
  results_writer,
  study_setup,
  train_arms,
  trained_models,
  training_flags,
)
from experiments.common.study import Study
from jaxlook import reporting, stats
from jaxlook.lookahead import local_myopia
from jaxlook.reporting import figures
from jaxlook.stats import myopia_gap
from jaxlook.training import SavedArm, Teacher, held_out_key, read_arm

flags.adopt_module_key_flags(study_setup)

STOPS = ("residual", "kv")
LOCAL = tuple(f"teacher/{stop}" for stop in STOPS)
TRAINED = (myopia_gap.CAUSAL, myopia_gap.RESIDUAL, myopia_gap.KV)


def teacher_of(arm: SavedArm, teacher: Teacher | None = None) -> Teacher:
  """All seeds of an arm, as a teacher."""
  return Teacher(arm.params(), arm.decoder, teacher)


def crossed(
  study: Study,
  vanilla: SavedArm,
  local: SavedArm,
  seeds: Collection[int],
) -> dict[str, dict[int, float]]:
  """Losses by a name that says whose weights and context, and seed."""
  teacher = teacher_of(vanilla)
  found = local_myopia.cross_contexts(
    study.problem.task,
    study.problem.train,
    teacher,
    teacher_of(local, teacher),
    key=held_out_key(),
    fed=study.problem.held_out,
  )
  return {
    f"{weights} weights, {context} context": {
      seed: float(loss)
      for seed, loss in zip(vanilla.seeds, losses, strict=True)
      if seed in seeds
    }
    for (weights, context), losses in found.items()
  }


def main() -> None:
  """Checks the flags, then trains and reports."""
  for flag in (trained_models.MODEL, training_flags.ATTENTION):
    if flag.value:
      raise app.UsageError(flag.name, "is given in vain: all arms are fixed")
  study = study_setup.build(
    "local_myopia", "The local myopia bonus beside the myopia gap", TRAINED
  )
  problem, unit = study.problem, study.unit
  bonus_source = study.source
  if not study.on_text:
    bonus_source = "jaxlook's own; the published bonus is on text"
  seeds = f"{len(problem.seeds)} seeds"
  with study.open_run() as store:
    todo = [(problem, variant) for variant in study.variants]
    local_variants = train_arms.named_variants(LOCAL, problem.model)
    later = [(problem, variant) for variant in local_variants]
    arms = train_arms.train_all(store, todo, later=later)
    vanilla = read_arm(arms[0].root)
    local = train_arms.train_all(store, later, vanilla)
    cells = [cell for arm in (*arms, *local) for cell in arm.cells]
    losses = myopia_gap.by_variant(cells, "loss")
    crossings = {
      stop: crossed(
        study,
        vanilla,
        read_arm(arm.root),
        losses[myopia_gap.CAUSAL].keys() & losses[arm.variant].keys(),
      )
      for stop, arm in zip(STOPS, local, strict=True)
    }
    claims = [
      claim
      for stop in STOPS
      for claim in local_myopia.claims(
        losses, stop, unit, study.source, bonus_source
      )
    ]
    tables = {
      f"Held-out loss, {unit}": reporting.variant_table(
        losses, myopia_gap.diverged(cells), {}
      ),
      "Gap and bonus, paired by seed": reporting.comparison_table(
        differences(losses)
      ),
    } | {
      f"Crossed evaluations, stop point {stop}, {unit}": (
        reporting.variant_table(by_seed, {}, {})
      )
      for stop, by_seed in crossings.items()
    }
    draw(store.figures / "bonus.png", study, losses, crossings)
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        cells=cells,
        claims=claims,
        tables=tables,
        figures={
          "bonus.png": "Left: held-out loss. Right: whose weights answer, and"
          f" whose context they read. Mean and 95% t band over {seeds}."
        },
        notes=(
          "A local model's context is what it computes while it reads the"
          " vanilla context; local weights on local context run by themselves.",
        ),
      ),
    )


def differences(losses) -> dict[str, stats.Comparison]:
  """Gap and bonus of both stop points, where two seeds are left."""
  pairs = {}
  for stop in STOPS:
    pairs[f"gap, {stop}"] = (f"myopic/{stop}", myopia_gap.CAUSAL)
    pairs[f"bonus, {stop}"] = (myopia_gap.CAUSAL, f"teacher/{stop}")
  return {
    f"{name}: {high} - {low}": stats.compare(losses[high], losses[low])
    for name, (high, low) in pairs.items()
    if len(losses[high].keys() & losses[low].keys()) >= 2
  }


def draw(path, study, losses, crossings) -> None:
  """Draws the losses of the arms and of the crossed evaluations."""
  unit = f"held-out loss, {study.unit}"
  rungs = ["myopic", "vanilla", "local"]
  left = {
    stop: np.array(
      [
        [losses[name].get(seed, np.nan) for seed in study.problem.seeds]
        for name in (f"myopic/{stop}", myopia_gap.CAUSAL, f"teacher/{stop}")
      ]
    )
    for stop in STOPS
  }
  crossing = list(next(iter(crossings.values())))
  right = {
    stop: np.array([list(by_seed[name].values()) for name in crossing])
    for stop, by_seed in crossings.items()
  }
  short = [name.replace(", ", ",\n") for name in crossing]
  figures.panels_figure(
    path,
    [
      [
        figures.Curves(
          "Gap and bonus", rungs, "training", unit, left, scale="steps"
        ),
        figures.Curves(
          "Crossed", short, "evaluation", unit, right, scale="steps"
        ),
      ]
    ],
    title=study.title,
    setup=f"{study.setup}; {len(study.problem.seeds)} seeds",
  )


if __name__ == "__main__":
  app.run(main)
