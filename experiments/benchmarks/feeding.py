"""Does reading text ever hold a training step up?

    python -m experiments.benchmarks.feeding [--preset=smoke|cpu|paper]
        [--out=DIR] [--rounds=9]

Times, in turns, what the host does for a chunk of training steps (reading the
windows of every seed from a memory-mapped text, with documents kept apart or
not), those steps with their windows at hand, and both as training runs them:
the device takes one chunk while the host reads the next. Random tokens and
weights; float32. The text was just written, so it is read from memory and not
from a disk.
"""

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

from experiments.benchmarks import contenders, output, targets, timing
from experiments.benchmarks.timing import Samples
from experiments.common import (
  app,
  presets,
  progress,
  results_writer,
  shared_flags,
  train_arms,
)
from jaxlook import stats
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.reporting import figures
from jaxlook.tasks.text import Text
from jaxlook.text.token_file import TokenFile
from jaxlook.training import TrainConfig
from jaxlook.training import step as step_lib

shared_flags.adopt(__name__, "preset", "rounds", "out")


READ, APART = "reading", "reading, documents apart"
STEPS, BOTH = "steps", "steps and reading"
CONTENDERS = (READ, APART, STEPS, BOTH)


@dataclasses.dataclass(frozen=True)
class FeedingConfig:
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


FeedingTimes = dict[tuple[str, str], Samples]


@contextlib.contextmanager
def texts(
  config: FeedingConfig, model: DecoderConfig
) -> Iterator[dict[str, Text]]:
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
  config: FeedingConfig, model: DecoderConfig, texts: Mapping[str, Text]
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


def measure(config: FeedingConfig) -> FeedingTimes:
  """Times of a chunk by model and contender."""
  found: FeedingTimes = {}
  for name, model in config.models.items():
    with texts(config, model) as read:
      runs = prepare(config, model, read)
      with progress.count(name, config.rounds, "rounds") as tick:
        times = timing.interleave(runs, config.rounds, tick=tick)
    found |= {(name, each): samples for each, samples in times.items()}
  return found


NAME = "benchmarks.feeding"
_FIGURE = "chunk.png"
_MOST = {READ: 0.05, BOTH: 1.05}


def _model(layers: int, width: int, heads: int, length: int, vocab: int):
  return DecoderConfig(layers, width, heads, length, vocab_size=vocab)


PRESETS = {
  "smoke": FeedingConfig(
    {"tiny": _model(1, 8, 2, 8, 257)}, 2, 2, 2, 4096, 100, 2
  ),
  "cpu": FeedingConfig(
    {
      "smallest": _model(1, 16, 2, 64, 257),
      "cpu preset": _model(2, 64, 4, 64, 1024),
    },
    *(32, 4, 10, 30_000_000, 2000),
  ),
  "paper": FeedingConfig(
    {"GPT-2 small": _model(12, 768, 12, 64, 50_257)},
    *(512, 1, 50, 1_000_000_000, 2000, 15),
  ),
}


def over_steps(
  found: FeedingTimes, model: str, contender: str
) -> stats.Interval:
  """The time of a contender over that of the steps alone."""
  return timing.ratio(
    found[model, contender].seconds, found[model, STEPS].seconds
  )


def claims(found: FeedingTimes) -> list[stats.Claim]:
  """Whether reading is short, and hidden behind the steps."""
  words = {
    READ: "reading a chunk's windows takes at most",
    BOTH: "steps during which the host reads take at most",
  }
  return [
    stats.claim(
      f"{contender} / {STEPS} <= {most:g}, {model}",
      f"{words[contender]} {most:g} of the time of the steps with windows at"
      " hand; n counts rounds",
      targets.SOURCE,
      "ratio",
      over_steps(found, model, contender),
      high=most,
    )
    for model in dict.fromkeys(model for model, _ in found)
    for contender, most in _MOST.items()
  ]


def results(
  config: FeedingConfig, found: FeedingTimes, setup: str
) -> results_writer.Results:
  """Says what was found."""
  rows = [["model", "what", "median ms", "quartiles ms", "busy cores"]]
  rows[0] += ["windows/s", "over the steps", "n"]
  windows = config.chunk * config.seeds * config.batch
  for (model, contender), mine in found.items():
    ratio = output.ratio_text(over_steps(found, model, contender))
    rows.append(
      [model, contender, *output.time_columns(mine)]
      + [f"{windows / mine.median:.4g}", ratio, str(len(mine.seconds))]
    )
  return results_writer.Results(
    name=NAME,
    title="Reading text against training on it",
    setup=setup,
    notes=[
      "Times are of a chunk. The host reads the windows of the next chunk while"
      " the device works on one, so reading holds training up only where it"
      " takes longer than the steps; on a CPU both want the same cores. A ratio"
      " is one of medians, with a 95% bootstrap interval over rounds.",
    ],
    tables={"Reading and steps": rows},
    figures={
      _FIGURE: f"{setup} Mean over rounds with 95% t intervals; less is better."
    },
    cells=[
      output.cell(model, contender, output.time_metrics(each))
      for (model, contender), each in found.items()
    ],
    claims=claims(found),
    claim_tables=targets.tables(claims(found)),
    measurements=output.samples_table(found),
  )


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = presets.chosen(PRESETS)
  if shared_flags.ROUNDS.value is not None:
    config = dataclasses.replace(config, rounds=shared_flags.ROUNDS.value)
  plain = {"experiment": NAME, **dataclasses.asdict(config)}
  with train_arms.open_run(NAME, plain) as store:
    found = measure(config)
    setup = (
      f"{config.seeds} seeds, {config.batch} windows a step and seed,"
      f" {config.chunk} steps a chunk, {config.tokens / 1e6:g} M tokens,"
      f" documents of {config.document}; causal, float32,"
      f" {jax.devices()[0].device_kind}, {contenders.cores()} cores;"
      f" {config.rounds} interleaved rounds."
    )
    figures.panels_figure(
      store.figures / _FIGURE,
      [
        [
          figures.Curves(
            model,
            CONTENDERS,
            "",
            "ms a chunk",
            {
              "a chunk": np.stack(
                [1e3 * found[model, each].seconds for each in CONTENDERS]
              )
            },
            scale="steps",
          )
          for model in config.models
        ]
      ],
      title="Reading text against training on it",
      setup=setup,
    )
    results_writer.write(store, results(config, found, setup))


if __name__ == "__main__":
  app.run(main, lambda: presets.values(PRESETS))
