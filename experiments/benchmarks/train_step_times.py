"""Times of whole training steps, of their pieces, and of many seeds at once."""

import dataclasses
from collections.abc import Mapping, Sequence

from experiments.benchmarks import (
  timing,
  train_step_pieces,
  train_step_setting,
  train_step_torch,
)
from experiments.benchmarks.timing import Samples
from experiments.benchmarks.train_step_pieces import Piece
from experiments.benchmarks.train_step_setting import (
  CAUSAL,
  MYOPIC,
  StepSetting,
)
from experiments.common import progress

Times = Mapping[str, Samples]
SeedTimes = Mapping[tuple[str, int], Samples]


@dataclasses.dataclass(frozen=True)
class TrainStepConfig:
  """A scale of the training step benchmark.

  Attributes:
    settings: the models whose steps are timed.
    rounds: of timing.
    seeded: the model of which many seeds are trained at once.
    seed_counts: how many seeds.
    seed_variants: the attentions of that model.
  """

  settings: tuple[StepSetting, ...]
  rounds: int
  seeded: StepSetting
  seed_counts: tuple[int, ...] = (1, 4, 16, 64)
  seed_variants: tuple[str, ...] = (CAUSAL, MYOPIC)


@dataclasses.dataclass(frozen=True)
class StepTimes:
  """The times of one setting.

  Attributes:
    setting: what was timed.
    pieces: of a step. Their `run` does nothing any more, which frees its
      arrays.
    times: of one step by variant, and of one piece by name.
  """

  setting: StepSetting
  pieces: Sequence[Piece]
  times: Times


def time_steps(setting: StepSetting, rounds: int) -> StepTimes:
  """Times steps of all variants and their pieces, in turns."""
  pieces = train_step_pieces.pieces(setting)
  runs = {
    variant: train_step_setting.compile_steps(setting, variant, seeds=1)
    for variant in setting.variants
  }
  if train_step_torch.available(setting):
    runs[train_step_torch.TORCH] = train_step_torch.compile_steps(setting)
  steps = list(runs)
  squares = train_step_pieces.squares()
  runs |= {piece.name: piece.run for piece in [*pieces, *squares]}
  with progress.count(setting.name, rounds, "rounds") as tick:
    times = timing.interleave(runs, rounds, tick=tick)
  for name in steps:
    times[name] = times[name].divided_by(setting.chunk)
  return StepTimes(
    setting, [piece._replace(run=lambda: None) for piece in pieces], times
  )


def time_seeds(config: TrainStepConfig) -> SeedTimes:
  """Times steps of several seeds at once, by variant and number of seeds."""
  setting = config.seeded
  cases = [
    (variant, count)
    for variant in config.seed_variants
    for count in config.seed_counts
  ]
  runs = {
    f"{variant} {count}": train_step_setting.compile_steps(
      setting, variant, count
    )
    for variant, count in cases
  }
  name, rounds = f"{setting.name}, seeds", config.rounds
  with progress.count(name, rounds, "rounds") as tick:
    times = timing.interleave(runs, rounds, tick=tick)
  return {
    (variant, count): times[f"{variant} {count}"].divided_by(setting.chunk)
    for variant, count in cases
  }
