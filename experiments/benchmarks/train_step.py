"""Does blocking gradient make training faster, and where does the time go?

    python -m experiments.benchmarks.train_step [--preset=smoke|cpu|paper]
        [--out=DIR] [--rounds=11] [--seed_counts=1,4,16,64]

Times whole training steps as the library takes them: causal, myopic and
myopic/residual in turns, on the pre-caching task of the published experiments
and, in preset `paper`, at the shape of GPT-2 small. Also timed are the pieces
of a step, compiled one by one, and the machine's rate of matrix products; on
models of text the same steps in PyTorch, where it is installed; and steps of
many seeds at once. `cpu` takes about 13 minutes on two cores; `paper` needs a
GPU. Models are trained in float32. A second run with the same `--out` measures
again.
"""

import dataclasses

import jax

from experiments.benchmarks import machine, train_step_report, train_step_times
from experiments.benchmarks.train_step_presets import PRESETS
from experiments.benchmarks.train_step_times import TrainStepConfig
from experiments.common import (
  app,
  define_flags,
  memory_check,
  presets,
  results_writer,
  shared_flags,
  train_arms,
)

shared_flags.adopt(__name__, "preset", "rounds", "out")

# Not --seeds, which is one number elsewhere.
_SEED_COUNTS = define_flags.values(
  "seed_counts", None, "Numbers of seeds that are trained at once."
)

NAME = "benchmarks.train_step"


def build_config() -> TrainStepConfig:
  """The preset with the flags' values."""
  counts = None
  if _SEED_COUNTS.value is not None:
    counts = app.numbers(_SEED_COUNTS.name, _SEED_COUNTS.value, int)
    counts = tuple(sorted(set(counts)))
    if not counts or counts[0] < 1:
      raise app.UsageError(
        _SEED_COUNTS.name, f"must be numbers of at least 1, not {list(counts)}"
      )
  config = presets.replaced(
    PRESETS, rounds=shared_flags.ROUNDS.value, seed_counts=counts
  )
  memory_check.check_training(
    config.seeded.model, config.seeded.train, max(config.seed_counts)
  )
  return config


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = build_config()
  described = {"experiment": NAME, **dataclasses.asdict(config)}
  with train_arms.open_run(NAME, described) as store:
    steps = [
      train_step_times.time_steps(setting, config.rounds)
      for setting in config.settings
    ]
    seeds = train_step_times.time_seeds(config)
    results = train_step_report.results(
      steps,
      config.seeded,
      seeds,
      name=NAME,
      setup=f"float32, {machine.description()}; {config.rounds} interleaved"
      " rounds",
      platform=jax.default_backend(),
    )
    results_writer.write(store, results)


if __name__ == "__main__":
  app.run(main, lambda: presets.values(PRESETS))
