"""What does a cache save in decoding?

    python -m experiments.benchmarks.decoding [--preset=smoke|cpu|paper]
        [--out=DIR] [--rounds=9]

Times greedy decoding and a beam search of width 4, with a cache of keys and
values and computing everything anew for every token, all in turns, by how many
tokens are added to a prompt of 8. Random weights; float32. `cpu` takes about 3
minutes on two cores.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import contenders, output, timing
from experiments.benchmarks.timing import Samples
from experiments.common import (
  app,
  presets,
  progress,
  results_writer,
  shared_flags,
  train_arms,
)
from jaxlook import decoding, models, stats
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.reporting import figures

shared_flags.adopt(__name__, "preset", "rounds", "out")

NAME = "benchmarks.decoding"
_PROMPT = 8
_WIDTH = 4
_WAYS = ("greedy", f"beam of {_WIDTH}")
_FIGURE = "tokens.png"


@dataclasses.dataclass(frozen=True)
class DecodingConfig:
  """A scale of the benchmark.

  Attributes:
    model: the decoder's shape.
    batch: prompts decoded together.
    steps: tokens added, ascending.
    rounds: of timing.
  """

  model: DecoderConfig
  batch: int
  steps: tuple[int, ...]
  rounds: int = 9


PRESETS = {
  "smoke": DecodingConfig(
    DecoderConfig(1, 8, 2, 16, vocab_size=11), 2, (2,), 2
  ),
  "cpu": DecodingConfig(
    DecoderConfig(2, 64, 4, 256, vocab_size=1024), 8, (16, 64, 240)
  ),
  "paper": DecodingConfig(
    DecoderConfig(12, 768, 12, 1024, vocab_size=50_257), 8, (64, 256, 1000), 15
  ),
}


def prepare(
  config: DecodingConfig, params: Any, steps: int, way: str, cached: bool
) -> Callable[[], None]:
  """What decodes a batch of prompts once, and waits."""
  decoder = Decoder(config.model)
  vocab_size = config.model.vocab_size or 0
  prompts = jax.random.randint(
    jax.random.key(0), (config.batch, _PROMPT), 0, vocab_size
  )

  def run() -> None:
    if way == _WAYS[0]:
      found = decoding.generate(decoder, params, prompts, steps, cached=cached)
    else:
      found = decoding.beam_search(
        decoder, params, prompts, steps, width=_WIDTH, cached=cached
      )
    jax.block_until_ready(found)

  return run


def measure(config: DecodingConfig) -> dict[tuple[int, str], Samples]:
  """Times by number of tokens and contender."""
  params = models.init(config.model, jax.random.key(0))
  found = {}
  for steps in config.steps:
    runs = {
      name(way, cached): prepare(config, params, steps, way, cached)
      for way in _WAYS
      for cached in (True, False)
    }
    with progress.count(f"{steps} tokens", config.rounds, "rounds") as tick:
      times = timing.interleave(runs, config.rounds, tick=tick)
    found |= {(steps, each): times[each] for each in runs}
  return found


def name(way: str, cached: bool) -> str:
  """What a contender is called."""
  return f"{way}, {'with a cache' if cached else 'anew'}"


def saved(
  found: Mapping[tuple[int, str], Samples], steps: int, way: str
) -> stats.Interval:
  """Tokens a second with a cache over those without."""
  with_cache, anew = (found[steps, name(way, c)] for c in (True, False))
  return timing.ratio(anew.seconds, with_cache.seconds)


def results(
  config: DecodingConfig, found: Mapping[tuple[int, str], Samples], setup: str
) -> results_writer.Results:
  """Says what was found."""
  rows = [["tokens", "how", "tokens/s", "median ms", "quartiles ms"]]
  rows[0] += ["busy cores", "tokens/s over anew", "n"]
  for (steps, contender), mine in found.items():
    way = contender.partition(",")[0]
    ratio = "1"
    if contender == name(way, True):
      ratio = output.ratio_text(saved(found, steps, way))
    rate = config.batch * steps / mine.median
    rows.append(
      [str(steps), contender, f"{rate:.4g}", *output.time_columns(mine)]
      + [ratio, str(len(mine.seconds))]
    )
  return results_writer.Results(
    name=NAME,
    title="Decoding with and without a cache",
    setup=setup,
    notes=[
      "Tokens are those of all prompts together; those that a beam search"
      " looked at and dropped do not count. A ratio is one of medians, with a"
      " 95% bootstrap interval over rounds.",
    ],
    tables={"Tokens a second": rows},
    figures={
      _FIGURE: f"{setup} Mean over rounds with 95% t intervals; more is better."
    },
    cells=[
      output.cell(f"{steps} tokens", contender, output.time_metrics(each))
      for (steps, contender), each in found.items()
    ],
    measurements=output.samples_table(
      {
        (f"{steps} tokens", contender): each
        for (steps, contender), each in found.items()
      }
    ),
  )


def panel(
  config: DecodingConfig, found: Mapping[tuple[int, str], Samples]
) -> figures.Curves:
  """Tokens a second against tokens added."""
  names = [name(way, cached) for way in _WAYS for cached in (True, False)]
  return figures.Curves(
    "Decoding",
    np.array(config.steps),
    "tokens added",
    "tokens a second",
    {
      each: np.stack(
        [config.batch * n / found[n, each].seconds for n in config.steps]
      )
      for each in names
    },
    scale="steps",
  )


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = presets.chosen(PRESETS)
  if shared_flags.ROUNDS.value is not None:
    config = dataclasses.replace(config, rounds=shared_flags.ROUNDS.value)
  plain = {"experiment": NAME, **dataclasses.asdict(config)}
  with train_arms.open_run(NAME, plain) as store:
    found = measure(config)
    model = config.model
    setup = (
      f"{model.layers} layers, width {model.width}, {model.heads} heads,"
      f" {model.vocab_size} tokens, random weights; {config.batch} prompts of"
      f" {_PROMPT}; float32, {jax.devices()[0].device_kind},"
      f" {contenders.cores()} cores; {config.rounds} interleaved rounds."
    )
    figures.panels_figure(
      store.figures / _FIGURE,
      [[panel(config, found)]],
      title="What a cache saves",
      setup=setup,
    )
    results_writer.write(store, results(config, found, setup))


if __name__ == "__main__":
  app.run(main, lambda: presets.values(PRESETS))
