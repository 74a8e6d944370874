"""Times of reading text, of training steps, and of both at once."""

import contextlib
import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import timing
from experiments.benchmarks.timing import Samples
from experiments.common import progress
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.text import Text
from jaxlook.text.token_file import TokenFile
from jaxlook.training import TrainConfig
from jaxlook.training import step as step_lib

READ, APART = "reading", "reading, documents apart"
STEPS, BOTH = "steps", "steps and reading"
CONTENDERS = (READ, APART, STEPS, BOTH)


@dataclasses.dataclass(frozen=True)
class FeedingConfig:
  """A scale of the benchmark of reading text.

  Attributes:
    models: shapes by name.
    batch: windows a step and seed.
    seeds: number of seeds, trained together.
    chunk: steps in one compiled program.
    tokens: length of the text.
    document: tokens of a document.
    rounds: of timing.
  """

  models: Mapping[str, DecoderConfig]
  batch: int
  seeds: int
  chunk: int
  tokens: int
  document: int
  rounds: int = 9


FeedingTimes = dict[tuple[str, str], Samples]
"""Times of a chunk of steps by model and contender."""


@contextlib.contextmanager
def _random_texts(
  config: FeedingConfig, model: DecoderConfig
) -> Iterator[dict[str, Text]]:
  """Writes random tokens to disk; they are removed at the end.

  Yields:
    The tokens as one text, and as documents that no window crosses.
  """
  rng = np.random.default_rng(0)
  counts = [config.document] * (config.tokens // config.document)
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "random.tokens")
    with open(path, "wb") as file:
      for count in counts:
        tokens = rng.integers(0, model.vocab_size, count, dtype=np.uint16)
        file.write(tokens.tobytes())
    path.with_suffix(".json").write_text(json.dumps({"documents": counts}))
    file = TokenFile(
      path=path,
      dtype="uint16",
      length=sum(counts),
      vocab_size=model.vocab_size or 0,
      num_bytes=sum(counts),
      tokenizer="random",
      tokenizer_sha256="",
      sha256="",
    )
    apart = dataclasses.replace(file, documents=len(counts))
    yield {
      READ: Text(file, length=model.max_length),
      APART: Text(apart, length=model.max_length),
    }


def _contenders(
  config: FeedingConfig, model: DecoderConfig, texts: Mapping[str, Text]
) -> dict[str, Callable[[], None]]:
  """Functions that read, train, or do both for a chunk of steps."""
  train = TrainConfig(steps=config.chunk, batch_size=config.batch)
  keys = step_lib.seed_keys(range(config.seeds))
  states = step_lib.init_states(model, train, keys.init)
  numbers = jnp.arange(config.chunk, dtype=jnp.int32)
  start = 0

  def read(text: Text) -> jax.Array:
    """The windows of the next chunk, [K, E, B, N + 1], read as in training."""
    nonlocal start
    steps = range(start, start + config.chunk)
    start += config.chunk
    feed = text.feed(config.batch)
    return jax.device_put(feed(steps, range(config.seeds), range(config.batch)))

  fed = read(texts[READ])
  chunk = functools.partial(
    step_lib.train_chunk, Decoder(model, "causal"), texts[READ], train
  )
  lowered = jax.jit(chunk, donate_argnums=0).lower(
    states, keys.data, numbers, fed
  )
  compiled = lowered.compile()

  def step(reads: bool) -> None:
    nonlocal states, fed
    states, losses = compiled(states, keys.data, numbers, fed)
    if reads:
      fed = read(texts[READ])
    jax.block_until_ready((states, losses, fed))

  return {
    READ: lambda: jax.block_until_ready(read(texts[READ])),
    APART: lambda: jax.block_until_ready(read(texts[APART])),
    STEPS: lambda: step(False),
    BOTH: lambda: step(True),
  }


def measure(config: FeedingConfig) -> FeedingTimes:
  """Times all contenders for every model, in turns."""
  found: FeedingTimes = {}
  for name, model in config.models.items():
    with _random_texts(config, model) as texts:
      runs = _contenders(config, model, texts)
      with progress.count(name, config.rounds, "rounds") as tick:
        times = timing.interleave(runs, config.rounds, tick=tick)
    found |= {(name, each): samples for each, samples in times.items()}
  return found
