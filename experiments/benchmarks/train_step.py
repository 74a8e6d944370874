"""Does blocking gradient make training faster, and where does the time go?

    python -m experiments.benchmarks.train_step [--preset=smoke|cpu|paper]
        [--out=DIR] [--rounds=11] [--seed_counts=1,4,16,64]

Times whole training steps as the library takes them, causal, myopic and
myopic/residual in turns, on the pre-caching task of the published experiments
and, in preset `paper`, at the shape of GPT-2 small; beside them the pieces of a
step, compiled one by one, and the machine's rate of matrix products; on models
of text the same steps in PyTorch, where that is installed; and steps of many
seeds at once. `cpu` takes about 13 minutes on two cores; `paper` wants a GPU.
Models are trained in float32. A second run with the same `--out` measures
again.
"""

import dataclasses

import jax
from absl import flags

from experiments.benchmarks import (
  contenders,
  output,
  stepping,
  train_measuring,
)
from experiments.benchmarks.stepping import CAUSAL, MYOPIC, RESIDUAL, Setting
from experiments.common import app, precache_setup, training_flags
from jaxlook.models import DecoderConfig
from jaxlook.training import TrainConfig

# Not --seeds, which elsewhere is one number.
_SEED_COUNTS = flags.DEFINE_list(
  "seed_counts", None, "Numbers of seeds to train at once, as 1,4,16,64."
)

flags.adopt_module_key_flags(output)

NAME = "benchmarks.train_step"


@dataclasses.dataclass(frozen=True)
class Config:
  """A scale of the benchmark.

  Attributes:
    settings: the models to time.
    rounds: of timing.
    seeded: the model that many seeds of are trained at once.
    seed_counts: how many.
    seed_variants: and under which attention.
  """

  settings: tuple[Setting, ...]
  rounds: int
  seeded: Setting
  seed_counts: tuple[int, ...] = (1, 4, 16, 64)
  seed_variants: tuple[str, ...] = (CAUSAL, MYOPIC)


def _precaching(
  name: str, preset: str, chunk: int, microbatches: int = 1, **more
) -> Setting:
  config = precache_setup.PRESETS[preset]
  problem = precache_setup.problem(config, config.p[0])
  train = dataclasses.replace(problem.train, microbatches=microbatches)
  return Setting(name, problem.task, problem.model, train, chunk, **more)


_SMALL = _precaching("width 64", "cpu", 8, published=(2914.0, 2700.0))
_PUBLISHED = _precaching(
  "width 128", "paper", 2, published=(584.0, 518.0), aimed=True
)
# Parts of 64 sequences keep their activations in the caches of a CPU.
_IN_PARTS = _precaching(
  "width 128", "paper", 2, 8, published=(584.0, 518.0), aimed=True
)
# Most of a smoke run is compiling, so one variant less.
_TINY = _precaching("width 8", "smoke", 2, variants=(CAUSAL, RESIDUAL))
_TEXT = Setting(
  "text",
  stepping.RandomTokens(4096, 256),
  DecoderConfig(4, 256, 4, max_length=256, vocab_size=4096),
  TrainConfig(steps=1000, batch_size=16, clip_norm=1.0),
  chunk=1,
)
_GPT2_SMALL = Setting(
  "GPT-2 small",
  stepping.RandomTokens(50_257, 1024),
  DecoderConfig(12, 768, 12, max_length=1024, vocab_size=50_257),
  TrainConfig(steps=1000, batch_size=8),
  chunk=2,
  aimed=True,
)
PRESETS = {
  "smoke": Config((_TINY,), 2, _TINY, (2,), (MYOPIC,)),
  "cpu": Config((_IN_PARTS, _SMALL, _TEXT), 11, _SMALL),
  "paper": Config((_PUBLISHED, _SMALL, _GPT2_SMALL), 21, _SMALL),
}


def build_config() -> Config:
  """The preset with the flags' values."""
  given = {}
  if output.ROUNDS.value is not None:
    given["rounds"] = output.ROUNDS.value
  if _SEED_COUNTS.value is not None:
    with app.naming("seed_counts"):
      counts = tuple(sorted({int(text) for text in _SEED_COUNTS.value}))
      if not counts or counts[0] < 1:
        raise ValueError(f"must be numbers of at least 1, not {list(counts)}")
    given["seed_counts"] = counts
  return dataclasses.replace(PRESETS[training_flags.PRESET.value], **given)


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = build_config()
  described = {"experiment": NAME, **dataclasses.asdict(config)}
  with training_flags.opened(NAME, described) as store:
    timed = [
      train_measuring.time_setting(setting, config.rounds)
      for setting in config.settings
    ]
    seeds = train_measuring.time_seeds(
      config.seeded, config.seed_variants, config.seed_counts, config.rounds
    )
    setup = (
      f"float32, {jax.devices()[0].device_kind}, {contenders.cores()} cores;"
      f" {config.rounds} interleaved rounds"
    )
    output.write(
      store,
      train_measuring.benchmark(
        store,
        NAME,
        setup,
        jax.default_backend(),
        timed,
        config.seeded,
        seeds,
      ),
    )


if __name__ == "__main__":
  app.run(main, trains=False)
