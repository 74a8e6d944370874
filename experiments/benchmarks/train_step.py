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
from collections.abc import Sequence

import jax
from absl import flags

from experiments.benchmarks import (
  contenders,
  output,
  pieces,
  stepping,
  targets,
  timing,
  torch_step,
  train_report,
)
from experiments.benchmarks.pieces import Piece
from experiments.benchmarks.stepping import CAUSAL, MYOPIC, RESIDUAL, Setting
from experiments.benchmarks.timing import Samples
from experiments.common import (
  app,
  precache_setup,
  presets,
  progress,
  results_writer,
  shared_flags,
  train_arms,
)
from jaxlook.models import DecoderConfig
from jaxlook.reporting import figures
from jaxlook.runs.store import Store
from jaxlook.training import TrainConfig

shared_flags.adopt(__name__, "preset", "rounds", "out")

TITLE = "A whole training step"
FIGURE = "seeds.png"
_NOTES = (
  "A step is the library's own: draw a batch, loss and gradient, AdamW, check"
  " for divergence; float32. Steps run in chunks of one compiled program, as in"
  " training, and a time is that of one step. A ratio is one of medians, with a"
  " 95% bootstrap interval over rounds.",
  "Pieces are timed alone, forward and backward, in the same rounds as the"
  " steps, on random numbers of their shapes. The compiler may fuse them inside"
  " a step, which makes the unexplained share smaller, even negative; biases,"
  " residual sums, the check for divergence and passing arrays on make it"
  " larger, and calls that last microseconds are mostly overhead when timed"
  " alone. Of a matrix product the piece is the product itself and the two of"
  " its gradient.",
  "GFLOP of a step are those of matrix products that are asked for: of"
  " attention over visible pairs, without computing scores again.",
  "PyTorch, where it is installed, takes steps of the same model, batch and"
  " optimiser in the same rounds, written as for speed, in the manner of"
  " nanoGPT; models of text only. A ratio over causal is one of times: above 1"
  " it is slower than ours.",
  f"Published: {targets.PUBLISHED}; one measurement, elsewhere, so no"
  " interval and no pairing.",
)


@dataclasses.dataclass(frozen=True)
class Timed:
  """A setting's times.

  Attributes:
    setting: what was timed.
    parts: the pieces of a step; their `run` is gone, and with it its arrays.
    times: of one step by variant, and of one piece by name.
  """

  setting: Setting
  parts: Sequence[Piece]
  times: dict[str, Samples]


def time_setting(setting: Setting, rounds: int) -> Timed:
  """Times steps of all variants and their pieces, in turns."""
  parts = pieces.pieces(setting)
  runs = {
    variant: stepping.prepare(setting, variant, 1)
    for variant in setting.variants
  }
  if torch_step.available(setting):
    runs[torch_step.TORCH] = torch_step.prepare(setting)
  steps = list(runs)
  runs |= {piece.name: piece.run for piece in [*parts, *pieces.squares()]}
  with progress.count(setting.name, rounds, "rounds") as tick:
    times = timing.interleave(runs, rounds, tick=tick)
  for name in steps:
    times[name] = times[name].divided_by(setting.chunk)
  return Timed(
    setting, [part._replace(run=lambda: None) for part in parts], times
  )


def time_seeds(
  setting: Setting,
  variants: Sequence[str],
  counts: Sequence[int],
  rounds: int,
) -> dict[tuple[str, int], Samples]:
  """Times steps of several seeds at once, by variant and number of seeds."""
  cases = [(variant, count) for variant in variants for count in counts]
  runs = {
    f"{variant} {count}": stepping.prepare(setting, variant, count)
    for variant, count in cases
  }
  with progress.count(f"{setting.name}, seeds", rounds, "rounds") as tick:
    times = timing.interleave(runs, rounds, tick=tick)
  return {
    (variant, count): times[f"{variant} {count}"].divided_by(setting.chunk)
    for variant, count in cases
  }


def results(
  store: Store,
  name: str,
  setup: str,
  platform: str,
  timed: Sequence[Timed],
  seeded: Setting,
  seeds: dict[tuple[str, int], Samples],
) -> results_writer.Results:
  """Draws the figure, and says all that was found."""
  tables, cells, claims, samples = {}, [], [], {}
  for each in timed:
    found = each.setting, each.parts, each.times
    tables[f"Steps, {each.setting}"] = train_report.steps_table(*found)
    tables[f"Where the time goes, {each.setting.name}"] = (
      train_report.parts_table(*found)
    )
    tables[f"Rates, {each.setting.name}"] = train_report.rates_table(*found)
    cells += train_report.cells(*found)
    claims += targets.step_claims(each.setting, each.times, platform)
    samples |= {
      (str(each.setting), key): mine for key, mine in each.times.items()
    }
  tables[f"Seeds at once, {seeded}"] = train_report.seeds_table(seeded, seeds)
  cells += train_report.seed_cells(seeded, seeds)
  claims += targets.seeds_claims(seeds, platform)
  samples |= {
    (train_report.seeds_setting(seeded, count), variant): mine
    for (variant, count), mine in seeds.items()
  }
  figures.panels_figure(
    store.figures / FIGURE,
    [train_report.seeds_panels(seeded, seeds)],
    title="Steps of many seeds at once",
    setup=f"{seeded}; {setup}",
  )
  return results_writer.Results(
    name=name,
    title=TITLE,
    setup=setup,
    notes=_NOTES,
    tables=tables,
    figures={
      FIGURE: f"{seeded}; {setup}. Lines: medians; bands: quartiles over"
      " rounds."
    },
    cells=cells,
    claims=claims,
    claim_tables=targets.tables(claims),
    measurements=output.samples_table(samples),
  )


# Not --seeds, which elsewhere is one number.
_SEED_COUNTS = flags.DEFINE_list(
  "seed_counts", None, "Numbers of seeds that are trained at once."
)


NAME = "benchmarks.train_step"


@dataclasses.dataclass(frozen=True)
class TrainStepConfig:
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
  "smoke": TrainStepConfig((_TINY,), 2, _TINY, (2,), (MYOPIC,)),
  "cpu": TrainStepConfig((_IN_PARTS, _SMALL, _TEXT), 11, _SMALL),
  "paper": TrainStepConfig((_PUBLISHED, _SMALL, _GPT2_SMALL), 21, _SMALL),
}


def build_config() -> TrainStepConfig:
  """The preset with the flags' values."""
  given = {}
  if shared_flags.ROUNDS.value is not None:
    given["rounds"] = shared_flags.ROUNDS.value
  if _SEED_COUNTS.value is not None:
    counts = app.numbers("seed_counts", _SEED_COUNTS.value, int)
    counts = tuple(sorted(set(counts)))
    if not counts or counts[0] < 1:
      raise app.UsageError(
        "seed_counts", f"must be numbers of at least 1, not {list(counts)}"
      )
    given["seed_counts"] = counts
  return dataclasses.replace(presets.chosen(PRESETS), **given)


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = build_config()
  described = {"experiment": NAME, **dataclasses.asdict(config)}
  with train_arms.open_run(NAME, described) as store:
    timed = [
      time_setting(setting, config.rounds) for setting in config.settings
    ]
    seeds = time_seeds(
      config.seeded, config.seed_variants, config.seed_counts, config.rounds
    )
    setup = (
      f"float32, {jax.devices()[0].device_kind}, {contenders.cores()} cores;"
      f" {config.rounds} interleaved rounds"
    )
    results_writer.write(
      store,
      results(
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
  app.run(main, lambda: presets.values(PRESETS))
