"""Do induction heads form when the future cannot ask for them?

    python -m experiments.induction [--preset=smoke|cpu|paper] [--out=DIR]
        [--attention=... (repeatable)] [--positions=rotary|learned]

A previous-token head does little for its own prediction: it writes the token
before into the stream so that a later query can find it, segment and gap
further on. Trains attention-only models of two layers on repeated random
sequences (`jaxlook.tasks.induction`), causal, both myopic cuts and a dial of
gradient horizons, and one layer as a control, and follows along training the
best previous-token head, the best prefix-matching and copying head, the loss of
tokens that can be copied and the in-context score. `cpu` takes about 10 minutes
on two cores.

Positions are rotary. With learned ones, or with short segments of few tokens,
models copy as well by heads that spread over several recent tokens, which no
score of a single position sees.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from absl import flags

from experiments.common import (
  app,
  results_writer,
  train_arms,
  training_flags,
)
from experiments.common.study import Study
from experiments.reports.induction import claims, draw_positions, figure, tables
from jaxlook.circuits import induction_heads
from jaxlook.models import DecoderConfig, scaled_init_std
from jaxlook.models.config import Positions
from jaxlook.stats import myopia_gap
from jaxlook.tasks.induction import Induction
from jaxlook.training import (
  FinishedArm,
  Problem,
  TrainConfig,
  held_out_batch,
  read_arm,
)

flags.adopt_module_key_flags(training_flags)
flags.declare_key_flag("positions")

ONE_LAYER = "1 layer"


NOTES = (
  "The answer lies at one of the gap's distances, so a head that knows only how"
  " far back to look matches prefixes, too: by one over their number, the line"
  " in the figure. Sequences to measure on are new, their gaps those of"
  " training.",
  "Rotary positions, 64 tokens and segments of 24 were chosen after pilots."
  " With learned positions and segments of 16 of 32 tokens ordinary training"
  " copied as well (accuracy 0.99), but three seeds of four without prefix"
  " matching (best head 0.16 [-0.25, 0.56], n = 4): keys blurred over several"
  " recent tokens do as well there. That such heads form is a finding about"
  " this setting; how a cut changes them is what is asked.",
  "Verdicts are of each claim by itself, without adjustment for their number.",
)


@dataclasses.dataclass(frozen=True)
class InductionConfig:
  """A scale of the experiment: task, model, training, seeds, the dial."""

  vocab_size: int
  segment: int
  max_gap: int
  length: int
  layers: int
  width: int
  heads: int
  seeds: int
  sequences: int
  horizons: tuple[int, ...]
  train: TrainConfig
  positions: Positions = "rotary"

  def task(self) -> Induction:
    """The task."""
    return Induction(self.vocab_size, self.segment, self.max_gap, self.length)


# Horizons: the token before; half of the nearest repeat, which two layers can
# add up; the nearest repeat; the farthest.
PRESETS = {
  "smoke": InductionConfig(
    *(8, 4, 2, 10, 2, 16, 2, 2, 16),
    (1,),
    training_flags.small_training(20, 8, log_every=10, keep_steps=(10, 20)),
  ),
  "cpu": InductionConfig(
    *(64, 24, 8, 56, 2, 64, 4, 4, 128),
    (1, 12, 23, 31),
    training_flags.small_training(
      800, 64, keep_steps=(50, 100, 150, 200, 250, 300, 400, 500, 600)
    ),
  ),
  "paper": InductionConfig(
    *(256, 64, 64, 192, 2, 256, 8, 8, 256),
    (1, 32, 63, 127),
    training_flags.small_training(
      10_000, 256, log_every=250, keep_steps=tuple(range(250, 10_000, 250))
    ),
  ),
}


def problems(config: InductionConfig) -> tuple[Problem, Problem]:
  """The task with its model: one layer, and the layers asked for."""
  task = config.task()

  def problem(layers: int, setting: str) -> Problem:
    model = DecoderConfig(
      layers,
      config.width,
      config.heads,
      max_length=config.length,
      vocab_size=config.vocab_size,
      mlp_width=0,
      positions=config.positions,
      tied_head=False,
      init_std=scaled_init_std(config.width),
    )
    return Problem(
      setting=setting,
      task=task,
      model=model,
      train=config.train,
      seeds=tuple(range(config.seeds)),
      score=lambda loss: {"loss": loss},
      about=dataclasses.asdict(task),
    )

  return problem(1, ONE_LAYER), problem(config.layers, "")


def follow(
  task: Induction, problem: Problem, arm: FinishedArm, sequences: int
) -> dict[int, induction_heads.InductionResults]:
  """Measures an arm's seeds before training and at each checkpoint."""
  saved = read_arm(arm.root)
  alive = [cell["status"] == "done" for cell in arm.cells]
  steps = sorted({0, *saved.train.keep_steps, saved.train.steps})
  batch = held_out_batch(problem, sequences)
  return {
    step: induction_heads.measure_induction(
      saved.decoder,
      task,
      saved.params(step),
      batch,
      alive,
    )
    for step in steps
  }


def cells(
  arm: FinishedArm, course: Mapping[int, induction_heads.InductionResults]
) -> list[dict[str, Any]]:
  """The arm's cells of result.json, with all that was measured at the end."""
  last = induction_heads.summary(course[max(course)])
  return [
    cell
    | {
      "metrics": cell["metrics"]
      | {
        name: float(values[place])
        for name, values in last.items()
        if cell["status"] == "done"
      }
    }
    for place, cell in enumerate(arm.cells)
  ]


def main() -> None:
  """Checks the flags, trains what is missing, measures and reports."""
  config = training_flags.resolve(
    PRESETS, positions=flags.FLAGS["positions"].value
  )
  if config.layers < 2:
    raise app.UsageError("layers", "must be at least 2; 1 is the control")
  dial = [f"horizon:{h}" for h in config.horizons]
  one, deep = problems(config)
  variants = train_arms.chosen_variants(
    [myopia_gap.RESIDUAL, myopia_gap.KV, *dial], deep.model
  )
  task = config.task()
  low, high = task.distances
  study = Study(
    name="induction",
    title="Induction heads with and without the future's gradient",
    problem=deep,
    variants=variants,
    config={"experiment": "induction", **dataclasses.asdict(config)},
    setup=f"segments of {config.segment} of {config.vocab_size} tokens, wanted"
    f" {low}..{high} positions later; attention only, {config.positions}"
    f" positions, {config.layers} layers,"
    f" width {config.width}, {config.heads} heads; AdamW"
    f" {config.train.learning_rate:g}, {config.train.steps} steps of"
    f" {config.train.batch_size} sequences",
    unit="nats/token",
    source="",
  )
  with study.open_run() as store:
    (causal,) = train_arms.named_variants([myopia_gap.CAUSAL], one.model)
    todo = [(one, causal), *((deep, each) for each in variants)]
    arms = train_arms.train_all(store, todo)
    courses = {
      arm.setting or arm.variant: follow(task, problem, arm, config.sequences)
      for (problem, _), arm in zip(todo, arms, strict=True)
    }
    setup = f"{study.setup}; {config.seeds} seeds"
    figure(
      store.figures / "heads.png",
      courses,
      chance=task.chance,
      by_distance=1 / (config.max_gap + 1),
      setup=setup,
    )
    draw_positions(
      *(store.figures / "positions.png", courses),
      chance=task.chance,
      setup=setup,
    )
    shallow, *rest = courses.values()
    names = [each.name for each in variants]
    by_variant = dict(zip(names, rest, strict=True))
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        claims=claims(by_variant, shallow, myopia_gap.CAUSAL),
        tables=tables(courses),
        figures={
          "heads.png": "The best head of each model along training, and what"
          " it buys; mean and 95% t band over seeds. Step 0 is untrained.",
          "positions.png": "After training: accuracy where the past decides the"
          " token, and loss everywhere; mean and 95% t band over seeds.",
        },
        cells=[
          cell
          for arm, course in zip(arms, courses.values(), strict=True)
          for cell in cells(arm, course)
        ],
        notes=(
          f"A token of the first segment is wanted {low} to {high} positions"
          " later, so with a horizon below that no query asks its own source"
          " for anything in one layer; the previous-token head itself needs"
          " gradient from one position on.",
          *NOTES,
        ),
      ),
    )


if __name__ == "__main__":
  app.run(main)
