"""Times of greedy decoding and beam search, with and without a cache."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from experiments.benchmarks import timing
from experiments.benchmarks.timing import Samples
from experiments.common import progress
from jaxlook import decoding, models
from jaxlook.keys import make_key
from jaxlook.models import Decoder, DecoderConfig

PROMPT_LENGTH = 8
BEAM_WIDTH = 4
GREEDY, BEAM = "greedy", f"beam of {BEAM_WIDTH}"
WAYS = (GREEDY, BEAM)

DecodingTimes = Mapping[tuple[int, str], Samples]
"""Times by number of tokens added and contender."""


@dataclasses.dataclass(frozen=True)
class DecodingConfig:
  """A scale of the decoding benchmark.

  Attributes:
    model: the decoder's shape.
    batch: prompts decoded together.
    steps: numbers of tokens added, ascending.
    rounds: of timing.
  """

  model: DecoderConfig
  batch: int
  steps: tuple[int, ...]
  rounds: int = 9


def contender(way: str, cached: bool) -> str:
  """The name of a way to decode, with a cache or without."""
  return f"{way}, {'with a cache' if cached else 'anew'}"


def measure(config: DecodingConfig) -> DecodingTimes:
  """Times all contenders at every number of tokens, in turns."""
  params = models.init(config.model, make_key(0))
  found = {}
  for steps in config.steps:
    runs = {
      contender(way, cached): _decode(config, params, steps, way, cached)
      for way in WAYS
      for cached in (True, False)
    }
    with progress.count(f"{steps} tokens", config.rounds, "rounds") as tick:
      times = timing.interleave(runs, config.rounds, tick=tick)
    found |= {(steps, name): times[name] for name in runs}
  return found


def _decode(
  config: DecodingConfig, params: Any, steps: int, way: str, cached: bool
) -> Callable[[], None]:
  """A function that decodes a batch of prompts once, and waits."""
  decoder = Decoder(config.model)
  vocab_size = config.model.vocab_size or 0
  prompts = jax.random.randint(
    make_key(0), (config.batch, PROMPT_LENGTH), 0, vocab_size
  )

  def run() -> None:
    if way == GREEDY:
      found = decoding.generate(decoder, params, prompts, steps, cached=cached)
    else:
      found = decoding.beam_search(
        decoder, params, prompts, steps, width=BEAM_WIDTH, cached=cached
      )
    jax.block_until_ready(found)

  return run
