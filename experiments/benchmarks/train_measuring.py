"""Times of training steps, of their pieces and of many seeds at once."""

import dataclasses
from collections.abc import Sequence

from experiments.benchmarks import (
  drawing,
  output,
  pieces,
  stepping,
  targets,
  timing,
  torch_step,
  train_report,
  train_targets,
)
from experiments.benchmarks.pieces import Piece
from experiments.benchmarks.stepping import Setting
from experiments.benchmarks.timing import Samples
from jaxlook.runs.store import Store

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
  f"Published: {train_targets.PUBLISHED}; one measurement, elsewhere, so no"
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
  times = timing.interleave(
    runs, rounds, tick=output.progress(f"{setting.name}, rounds", rounds)
  )
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
  times = timing.interleave(
    {
      f"{variant} {count}": stepping.prepare(setting, variant, count)
      for variant, count in cases
    },
    rounds,
    tick=output.progress(f"{setting.name}, seeds, rounds", rounds),
  )
  return {
    (variant, count): times[f"{variant} {count}"].divided_by(setting.chunk)
    for variant, count in cases
  }


def benchmark(
  store: Store,
  name: str,
  setup: str,
  platform: str,
  timed: Sequence[Timed],
  seeded: Setting,
  seeds: dict[tuple[str, int], Samples],
) -> output.Benchmark:
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
    claims += train_targets.step_claims(each.setting, each.times, platform)
    samples |= {
      (str(each.setting), key): mine for key, mine in each.times.items()
    }
  tables[f"Seeds at once, {seeded}"] = train_report.seeds_table(seeded, seeds)
  cells += train_report.seed_cells(seeded, seeds)
  claims += train_targets.seeds_claims(seeds, platform)
  samples |= {
    (train_report.seeds_setting(seeded, count), variant): mine
    for (variant, count), mine in seeds.items()
  }
  if claims:
    tables["Targets"] = targets.table(claims)
  drawing.draw(
    store,
    FIGURE,
    "Steps of many seeds at once",
    f"{seeded}; {setup}",
    train_report.seeds_panels(seeded, seeds),
  )
  return output.Benchmark(
    name=name,
    title=TITLE,
    setup=setup,
    notes=_NOTES,
    tables=tables,
    captions={FIGURE: f"{seeded}; {setup}. Bars: quartiles over rounds."},
    cells=cells,
    claims=claims,
    measurements=output.samples_table(samples),
  )
