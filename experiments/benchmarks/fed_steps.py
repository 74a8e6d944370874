"""Reading text, training on it, and both, ready to be timed."""

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

from experiments.benchmarks import output, timing
from experiments.benchmarks.timing import Samples
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.text import Text
from jaxlook.text.token_file import TokenFile
from jaxlook.training import TrainConfig
from jaxlook.training import step as step_lib

READ, APART = "reading", "reading, documents apart"
STEPS, BOTH = "steps", "steps and reading"
CONTENDERS = (READ, APART, STEPS, BOTH)


@dataclasses.dataclass(frozen=True)
class Config:
  """A scale of the benchmark.

  Attributes:
    models: shapes by name.
    batch: windows a step and seed.
    seeds: trained together.
    chunk: steps a chunk.
    tokens: of the text.
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


Found = dict[tuple[str, str], Samples]


@contextlib.contextmanager
def texts(config: Config, model: DecoderConfig) -> Iterator[dict[str, Text]]:
  """Random tokens on disk, taken as one and in documents, while it is open."""
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


def prepare(
  config: Config, model: DecoderConfig, texts: Mapping[str, Text]
) -> dict[str, Callable[[], None]]:
  """What reads, trains, and does both, each a chunk of steps a call."""
  train = TrainConfig(config.chunk, config.batch)
  keys = step_lib.seed_keys(range(config.seeds))
  states = step_lib.init_states(model, train, keys.init)
  numbers = jnp.arange(config.chunk, dtype=jnp.int32)
  start = 0

  def read(text: Text) -> jax.Array:
    """Windows of the next chunk, [K, E, B, N + 1], as training reads them."""
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


def measure(config: Config) -> Found:
  """Times of a chunk by model and contender."""
  found: Found = {}
  for name, model in config.models.items():
    with texts(config, model) as read:
      times = timing.interleave(
        prepare(config, model, read),
        config.rounds,
        tick=output.progress(f"{name}, rounds", config.rounds),
      )
    found |= {(name, each): samples for each, samples in times.items()}
  return found
