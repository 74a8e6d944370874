"""Does the first step of a path-star answer get planned, and what pays for it?

    python -m experiments.path_star [--preset=smoke|cpu|paper] [--out=DIR]
        [--attention=... (repeatable)] [--setting=... (repeatable)]

Given the true path so far, every step but the first follows from one edge, so
next-token training is said to stay at chance there. Trains on star graphs
(`jaxlook.tasks.path_star`) in the context, forward, reversed, teacherless and
masked, and in the weights (`path_star_weights`), where held-out paths are said
to be found without gradient from later tokens: a prediction for both myopic
cuts, which as far as we found nobody has run. Causal and both cuts train on
forward, reversed and in-weights graphs; on the others, also teacherless in
weights, causal alone, unless `--attention` names what to train. `cpu` takes
about 16 minutes on two cores.

Per setting and variant: loss and accuracy by step under teacher forcing, whole
paths in free writing, beam gain, linear probes where the answer starts beside
untrained models and shuffled labels, and a causal test: the residual stream of
a prompt that differs in the plan alone is put in at one place
(`jaxlook.planning.stars.questions`), and the answer is written.
"""

import dataclasses
from collections.abc import Sequence
from typing import cast

import numpy as np
from absl import flags

from experiments.common import (
  app,
  results_writer,
  train_arms,
  training_flags,
)
from experiments.common.study import Study
from experiments.reports import path_star as stars_report
from experiments.reports import path_star_claims as stars_claims
from jaxlook.attention import Variant
from jaxlook.models import DecoderConfig, scaled_init_std
from jaxlook.planning.stars.settings import (
  COMPARED,
  FORCED_GRAPHS,
  FORWARD,
  IN_WEIGHTS,
  SETTINGS,
  WEIGHTS,
  GraphResults,
  Graphs,
  StarTask,
  measure_setting,
)
from jaxlook.stats import claims, myopia_gap
from jaxlook.training import (
  FinishedArm,
  Problem,
  TrainConfig,
  held_out_key,
  read_arm,
)

flags.adopt_module_key_flags(training_flags)

_SETTING = flags.DEFINE_multi_enum(
  "setting",
  None,
  SETTINGS,
  "What to train on; may be repeated. All by"
  " default, at the scale `smoke` two.",
)

NOTES = (
  "A path is written greedily, each step read with those before it; a model of"
  " a teacherless setting never saw its answer in training and is read off at"
  " once. Under masking, accuracy is that with nothing hidden.",
  f"Accuracies given the true steps before are of {FORCED_GRAPHS:,} graphs that"
  " nothing else was asked about, in weights of all held-out leaves; so are"
  " claims of written paths, which greedy writing gets right exactly where all"
  " steps are right given the true ones before. Losses, beams, probes, swaps"
  " and the columns that say written are of fewer graphs (`sequences` in the"
  " config).",
  "`goal` donors ask the same graph for another goal, so that before the goal"
  " nothing can move; `leaves` donors ask the same, with the leaves of two arms"
  " exchanged in the edges. Moved is the share of answers that become the"
  " donor's, left the share that stay. Who guesses among arms writes the"
  " donor's path by chance: how often is what `before the goal` shows. At the"
  " goal, before block 0, nothing but the input is replaced: that is a ceiling,"
  " and nothing is claimed of it.",
  "In weights the head is the token embedding; in pilots without that ordinary"
  " training found no held-out path (G(256, 4): first step 0.00 after 2,000"
  " steps, n = 1, and 0.41 with it, n = 1; the former had more weight decay,"
  " too).",
  "Verdicts are of each claim by itself, without adjustment for their number.",
)


@dataclasses.dataclass(frozen=True)
class PathStarConfig:
  """A scale: graphs, model, seeds, training in context and in weights."""

  graphs: Graphs
  layers: int
  width: int
  heads: int
  seeds: int
  sequences: int
  train: TrainConfig
  train_weights: TrainConfig
  settings: tuple[str, ...] = SETTINGS


PRESETS = {
  "smoke": PathStarConfig(
    *(Graphs(2, 3, 6, 8, 3), 1, 16, 2, 2, 8),
    *(
      training_flags.small_training(4, 4),
      training_flags.small_training(4, 4),
      (FORWARD, WEIGHTS),
    ),
  ),
  "cpu": PathStarConfig(
    *(Graphs(2, 4, 12, 256, 4), 2, 64, 4, 3, 256),
    training_flags.small_training(2000, 64),
    training_flags.small_training(1500, 256),
  ),
  # As published: 200,000 graphs 100 times over; 5 x 10^4 nodes.
  "paper": PathStarConfig(
    *(Graphs(2, 5, 50, 12_500, 5), 6, 384, 6, 5, 2000),
    training_flags.small_training(78_000, 256, learning_rate=1e-4),
    training_flags.small_training(100_000, 1024, learning_rate=1e-4),
  ),
}


def build_config() -> PathStarConfig:
  """The preset with the flags' values."""
  if training_flags.LENGTH.value is not None:
    raise app.UsageError("length", "is given in vain: the graphs decide it")
  config = training_flags.resolve(PRESETS)
  train = training_flags.resolve_train(config.train_weights)
  settings = tuple(dict.fromkeys(_SETTING.value or config.settings))
  return dataclasses.replace(config, train_weights=train, settings=settings)


def problem(config: PathStarConfig, setting: str) -> Problem:
  """The task of a setting with its model and training."""
  task = config.graphs.task(setting)
  model = DecoderConfig(
    config.layers,
    config.width,
    config.heads,
    max_length=task.length,
    vocab_size=task.vocab_size,
    init_std=scaled_init_std(config.width),
  )
  return Problem(
    setting=setting,
    task=task,
    model=model,
    train=config.train_weights if setting in IN_WEIGHTS else config.train,
    seeds=tuple(range(config.seeds)),
    score=lambda loss: {"loss": loss},
    about=dataclasses.asdict(task),
  )


def to_train(
  problems: Sequence[Problem], variants: Sequence[Variant]
) -> list[tuple[Problem, Variant]]:
  """Problem and variant of each arm: what `--attention` names, everywhere."""
  named = bool(training_flags.ATTENTION.value)
  found = []
  for mine in problems:
    compared = named or mine.setting in COMPARED
    found += [(mine, each) for each in (variants if compared else variants[:1])]
  return found


def look(problem: Problem, arm: FinishedArm, sequences: int) -> GraphResults:
  """Examines an arm's models before and after training."""
  saved = read_arm(arm.root)
  return measure_setting(
    cast(StarTask, problem.task),
    saved.decoder,
    saved.params(),
    saved.params(0),
    held_out_key(),
    sequences,
    [cell["status"] == "done" for cell in arm.cells],
  )


def cells(arm: FinishedArm, found: GraphResults) -> list[dict]:
  """The arm's cells of result.json, with what was measured."""
  measured = stars_claims.numbers(found)
  return [
    cell
    | {
      "metrics": cell["metrics"]
      | {
        name: float(values[place])
        for name, values in measured.items()
        if np.isfinite(values[place])
      }
    }
    for place, cell in enumerate(arm.cells)
  ]


def main() -> None:
  """Checks the flags, trains what is missing, measures and reports."""
  config = build_config()
  problems = [problem(config, setting) for setting in config.settings]
  variants = train_arms.variants_that_only_cut(
    [myopia_gap.RESIDUAL, myopia_gap.KV], problems[0].model
  )
  todo = to_train(problems, variants)
  graphs, train = config.graphs, config.train
  study = Study(
    name="path_star",
    title="Path-star graphs with and without the future's gradient",
    problem=problems[0],
    variants=variants,
    config={"experiment": "path_star", **dataclasses.asdict(config)},
    setup=f"in context G({graphs.degree}, {graphs.path_length}) of"
    f" {graphs.node_count} labels, {train.steps} steps of {train.batch_size}"
    f" graphs; in weights G({graphs.arms}, {graphs.arm_length}),"
    f" {config.train_weights.steps} steps of"
    f" {config.train_weights.batch_size} items; {config.layers} layers, width"
    f" {config.width}, {config.heads} heads, AdamW {train.learning_rate:g}",
    unit="nats/token",
    source="",
  )
  with study.open_run() as store:
    arms = train_arms.train_all(store, todo)
    every: dict[str, dict[str, GraphResults]] = {}
    rows = []
    for (of, variant), arm in zip(todo, arms, strict=True):
      found = look(of, arm, config.sequences)
      every.setdefault(of.setting, {})[variant.name] = found
      rows += cells(arm, found)
    seeds = tuple(range(config.seeds))
    setup = f"{study.setup}; {config.seeds} seeds"
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        claims=claims.judged(stars_claims.statements(every)),
        tables=stars_report.tables(every),
        figures=stars_report.draw(store.figures, every, setup),
        cells=rows,
        measurements=stars_report.measurements(every, seeds),
        notes=NOTES,
      ),
    )


if __name__ == "__main__":
  app.run(main)
