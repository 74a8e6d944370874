"""Does reading text ever delay a training step?

    python -m experiments.benchmarks.feeding [--preset=smoke|cpu|paper]
        [--out=DIR] [--rounds=9]

Times, in turns, three things for a chunk of training steps. First what the host
does: it reads the windows of every seed from a memory-mapped text, with
documents kept apart or not. Then those steps alone, with windows that were read
before. Then both as training does them: the device works on one chunk while the
host reads the next. Random tokens and weights; float32. The text was just
written, so it is read from memory and not from a disk.
"""

import dataclasses

from experiments.benchmarks import feeding_report, feeding_times, machine
from experiments.benchmarks.feeding_times import FeedingConfig
from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  train_arms,
)
from jaxlook.models import DecoderConfig
from jaxlook.numerals import counted

shared_flags.adopt(__name__, "preset", "rounds", "out")

NAME = "benchmarks.feeding"

PRESETS = {
  "smoke": FeedingConfig(
    models={
      "tiny": DecoderConfig(
        layers=1, width=8, heads=2, max_length=8, vocab_size=257
      )
    },
    batch=2,
    seeds=2,
    chunk=2,
    tokens=4096,
    document=100,
    rounds=2,
  ),
  "cpu": FeedingConfig(
    models={
      # The fastest steps, which reading is most likely to delay.
      "smallest": DecoderConfig(
        layers=1, width=16, heads=2, max_length=64, vocab_size=257
      ),
      # As experiments.language trains in its preset cpu.
      "cpu preset": DecoderConfig(
        layers=2, width=64, heads=4, max_length=64, vocab_size=1024
      ),
    },
    batch=32,
    seeds=4,
    chunk=10,
    tokens=30_000_000,
    document=2000,
  ),
  "paper": FeedingConfig(
    models={
      # Windows of 64 tokens, as experiments.language in its preset paper.
      "GPT-2 small": DecoderConfig(
        layers=12, width=768, heads=12, max_length=64, vocab_size=50_257
      )
    },
    batch=512,
    seeds=1,
    chunk=50,
    tokens=1_000_000_000,
    document=2000,
    rounds=15,
  ),
}


def setup(config: FeedingConfig) -> str:
  """What is timed, in a line for figure and report."""
  return (
    f"{counted(config.seeds, 'seed')}, {config.batch} windows a step and seed,"
    f" {config.chunk} steps a chunk, {config.tokens / 1e6:g} M tokens,"
    f" documents of {config.document}; causal, float32,"
    f" {machine.description()}; {config.rounds} interleaved rounds"
  )


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = presets.replaced(PRESETS, rounds=shared_flags.ROUNDS.value)
  described = {"experiment": NAME, **dataclasses.asdict(config)}
  with train_arms.open_run(NAME, described) as store:
    found = feeding_times.measure(config)
    results = feeding_report.results(
      config, found, name=NAME, setup=setup(config)
    )
    results_writer.write(store, results)


if __name__ == "__main__":
  app.run(main, lambda: presets.values(PRESETS))
