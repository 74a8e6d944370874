"""What does a cache save in decoding?

    python -m experiments.benchmarks.decoding [--preset=smoke|cpu|paper]
        [--out=DIR] [--rounds=9]

Times greedy decoding and a beam search of width 4, by how many tokens are added
to a prompt of 8: with a cache of keys and values, and computing everything
again for every token. All take turns. Random weights; float32. `cpu` takes
about 3 minutes on two cores.
"""

import dataclasses

from experiments.benchmarks import decoding_report, decoding_times, machine
from experiments.benchmarks.decoding_times import DecodingConfig
from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  task_setup,
  train_arms,
)
from jaxlook.models import DecoderConfig

shared_flags.adopt(__name__, "preset", "rounds", "out")

NAME = "benchmarks.decoding"

PRESETS = {
  "smoke": DecodingConfig(
    model=DecoderConfig(
      layers=1, width=8, heads=2, max_length=16, vocab_size=11
    ),
    batch=2,
    steps=(2,),
    rounds=2,
  ),
  "cpu": DecodingConfig(
    model=DecoderConfig(
      layers=2, width=64, heads=4, max_length=256, vocab_size=1024
    ),
    batch=8,
    # With the prompt, 240 tokens nearly fill the window.
    steps=(16, 64, 240),
  ),
  "paper": DecodingConfig(
    # GPT-2 small.
    model=DecoderConfig(
      layers=12, width=768, heads=12, max_length=1024, vocab_size=50_257
    ),
    batch=8,
    steps=(64, 256, 1000),
    rounds=15,
  ),
}


def setup(config: DecodingConfig) -> str:
  """What is timed, in a line for figure and report."""
  model = config.model
  return (
    f"{task_setup.shape_line(model)}, {model.vocab_size} tokens, random"
    f" weights; {config.batch} prompts of {decoding_times.PROMPT_LENGTH};"
    f" float32, {machine.description()}; {config.rounds} interleaved rounds"
  )


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = presets.replaced(PRESETS, rounds=shared_flags.ROUNDS.value)
  described = {"experiment": NAME, **dataclasses.asdict(config)}
  with train_arms.open_run(NAME, described) as store:
    found = decoding_times.measure(config)
    results = decoding_report.results(
      config, found, name=NAME, setup=setup(config)
    )
    results_writer.write(store, results)


if __name__ == "__main__":
  app.run(main, lambda: presets.values(PRESETS))
