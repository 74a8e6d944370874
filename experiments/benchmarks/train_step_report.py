"""Tables, cells and figure of the training step benchmark."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.benchmarks import (
  timing,
  timing_tables,
  train_step_pieces,
  train_step_targets,
)
from experiments.benchmarks.timing import Samples
from experiments.benchmarks.train_step_pieces import Piece, step_flops
from experiments.benchmarks.train_step_setting import (
  CAUSAL,
  StepSetting,
  sequences_per_second,
)
from experiments.benchmarks.train_step_times import SeedTimes, StepTimes, Times
from experiments.benchmarks.train_step_torch import TORCH
from experiments.common import results_writer
from jaxlook import reporting, stats
from jaxlook.numerals import counted
from jaxlook.reporting import figures

FIGURE = "seeds.png"
TITLE = "A whole training step"
NOTES = (
  "A step is the library's own: draw a batch, loss and gradient, AdamW, check"
  " for divergence; float32. Steps run in chunks of one compiled program, as in"
  f" training. Times are per step. {timing_tables.RATIO_NOTE}",
  "Pieces are timed alone, forward and backward, in the same rounds as the"
  " steps, on random numbers of their shapes. The unexplained share is what the"
  " pieces do not add up to. The compiler may fuse pieces inside a step, which"
  " makes the share smaller, even negative. Biases, residual sums, the check"
  " for divergence and passing arrays on make it larger. A call of microseconds"
  " is mostly overhead when timed alone. The piece of a matrix product is the"
  " product and the two products of its gradient.",
  "GFLOP of a step count its matrix products: those of attention over visible"
  " pairs, without computing scores again.",
  "PyTorch, where it is installed, takes steps of the same model, batch and"
  " optimiser in the same rounds, on models of text only. Its code is written"
  " for speed, like nanoGPT. A ratio over causal compares times: above 1 it is"
  " slower than ours.",
  f"Published: {train_step_targets.PUBLISHED}; one measurement on another"
  " machine, so there is no interval and no pairing.",
)


def results(
  steps: Sequence[StepTimes],
  seeded: StepSetting,
  seeds: SeedTimes,
  *,
  name: str,
  setup: str,
  platform: str,
) -> results_writer.Results:
  """Collects tables, figure, cells and claims.

  Args:
    steps: the times of each setting.
    seeded: the setting of which many seeds were trained at once.
    seeds: its times.
    name: of the benchmark.
    setup: device and rounds, in a line.
    platform: the backend, which decides which targets apply.

  Returns:
    The results, to be written.
  """
  tables, cells, claims = {}, [], []
  for each in steps:
    setting, times = each.setting, each.times
    args = setting, each.pieces, times
    tables[f"Steps, {setting}"] = steps_table(*args)
    tables[f"Where the time goes, {setting.name}"] = pieces_table(*args)
    tables[f"Rates, {setting.name}"] = rates_table(*args)
    cells += step_cells(*args)
    claims += train_step_targets.step_claims(setting, times, platform)
  tables[f"Seeds at once, {seeded}"] = seeds_table(seeded, seeds)
  cells += seed_cells(seeded, seeds)
  claims += train_step_targets.seeds_claims(seeds, platform)
  setup_of_seeds = f"{seeded}; {setup}"
  return results_writer.Results(
    name=name,
    title=TITLE,
    setup=setup,
    notes=NOTES,
    tables=tables,
    figures={
      FIGURE: results_writer.Drawing(
        lambda path: figures.panels_figure(
          path,
          [seeds_panels(seeded, seeds)],
          title="Steps of many seeds at once",
          setup=setup_of_seeds,
        ),
        f"{setup_of_seeds}. Lines: medians; bands: quartiles over rounds.",
      )
    },
    cells=cells,
    claims=claims,
    claim_tables=timing_tables.target_tables(claims),
    measurements=_samples_table(steps, seeded, seeds),
  )


def _samples_table(
  steps: Sequence[StepTimes], seeded: StepSetting, seeds: SeedTimes
) -> pa.Table:
  """All samples, one a row."""
  samples = {
    (str(each.setting), name): times
    for each in steps
    for name, times in each.times.items()
  } | {
    (seeds_setting(seeded, count), variant): times
    for (variant, count), times in seeds.items()
  }
  return timing_tables.samples_table(samples)


def gflops(flops: float, found: Samples) -> float:
  """Billions of floating-point operations a second."""
  return flops / found.median / 1e9


def model_gflops(pieces: Sequence[Piece], times: Times) -> float:
  """GFLOP/s of the model's matrix products, as often as a step does each."""
  mine = [p for p in pieces if p.name.startswith(train_step_pieces.MATMULS)]
  seconds = sum(p.repeats * times[p.name].median for p in mine)
  return sum(p.repeats * p.flops for p in mine) / seconds / 1e9


def steps_table(
  setting: StepSetting, pieces: Sequence[Piece], times: Times
) -> reporting.Rows:
  """One row a variant, and the published figures."""
  own = model_gflops(pieces, times)
  rows = [
    ["variant", "median ms", "quartiles ms", "busy cores", "sequences/s"]
    + ["over causal", "GFLOP a step", "GFLOP/s", "of matmul rate", "n"]
  ]
  torch = [TORCH] if TORCH in times else []
  for variant in (*setting.variants, *torch):
    mine = times[variant]
    flops = step_flops(setting, CAUSAL if variant == TORCH else variant)
    achieved = gflops(flops, mine)
    ratio = timing.ratio(mine.seconds, times[CAUSAL].seconds)
    rows.append(
      [variant, *timing_tables.time_columns(mine)]
      + [timing_tables.ratio_text(sequences_per_second(setting, mine))]
      + ["1" if variant == CAUSAL else timing_tables.ratio_text(ratio)]
      + [reporting.number(flops / 1e9), reporting.number(achieved)]
      + [f"{achieved / own:.0%}", str(len(mine.seconds))]
    )
  for name, figure in zip(
    ("vanilla", "myopic"), setting.published or (), strict=False
  ):
    rows.append(
      [f"published {name}", *["-"] * 3, f"{figure:g}", *["-"] * 4, "1"]
    )
  return rows


def pieces_table(
  setting: StepSetting, pieces: Sequence[Piece], times: Times
) -> reporting.Rows:
  """One row a piece, with its share of a step, and the unexplained share."""
  steps = {variant: times[variant].seconds for variant in setting.variants}
  rows = [
    ["piece", "times a step", "ms each", "ms a step", "GFLOP/s"]
    + [f"share of {variant}" for variant in setting.variants]
  ]
  for p in pieces:
    mine = times[p.name]
    shares = [
      timing_tables.ratio_text(timing.ratio(p.repeats * mine.seconds, step))
      if _belongs(p, variant)
      else "-"
      for variant, step in steps.items()
    ]
    each = 1e3 * mine.median
    rows.append(
      [p.name, str(p.repeats), reporting.number(each)]
      + [reporting.number(p.repeats * each)]
      + [reporting.number(gflops(p.flops, mine)) if p.flops else "-", *shares]
    )
  left = [unexplained(pieces, times, variant) for variant in setting.variants]
  return [
    *rows,
    [
      "unexplained",
      *["-"] * 4,
      *(timing_tables.ratio_text(each) for each in left),
    ],
  ]


def unexplained(
  pieces: Sequence[Piece], times: Times, variant: str
) -> stats.Interval:
  """The share of a step that its pieces do not account for."""
  mine = [p for p in pieces if _belongs(p, variant)]

  def left(step, *each):
    spent = sum(
      p.repeats * np.median(seconds, axis=-1)
      for p, seconds in zip(mine, each, strict=True)
    )
    return 1.0 - spent / np.median(step, axis=-1)

  return timing.resampled(
    left, times[variant].seconds, *(times[p.name].seconds for p in mine)
  )


def _belongs(piece: Piece, variant: str) -> bool:
  kind, _, which = piece.name.partition(": ")
  return kind != train_step_pieces.ATTENTION or which == variant


def rates_table(
  setting: StepSetting, pieces: Sequence[Piece], times: Times
) -> reporting.Rows:
  """The rate of matrix products, at the model's shapes and of squares."""
  rows = [
    ["matrix products", "GFLOP/s"],
    [
      f"those of {setting.name} with weights",
      reporting.number(model_gflops(pieces, times)),
    ],
  ]
  return rows + [
    [
      name,
      reporting.number(gflops(train_step_pieces.SQUARE_FLOPS, times[name])),
    ]
    for name in train_step_pieces.SQUARES.values()
    if name in times
  ]


def seeds_table(setting: StepSetting, times: SeedTimes) -> reporting.Rows:
  """One row a variant and number of seeds."""
  rows = [
    ["variant", "seeds", "median ms", "quartiles ms", "busy cores"]
    + ["sequences/s of all", "time over the fewest seeds", "n"]
  ]
  fewest = min(seeds for _, seeds in times)
  for (variant, seeds), mine in times.items():
    ratio = timing.ratio(mine.seconds, times[variant, fewest].seconds)
    rows.append(
      [variant, str(seeds), *timing_tables.time_columns(mine)]
      + [timing_tables.ratio_text(sequences_per_second(setting, mine, seeds))]
      + ["1" if seeds == fewest else timing_tables.ratio_text(ratio)]
      + [str(len(mine.seconds))]
    )
  return rows


def step_cells(
  setting: StepSetting, pieces: Sequence[Piece], times: Times
) -> list[dict[str, Any]]:
  """One cell for each variant, piece and published figure."""
  counts = {p.name: p.repeats for p in pieces}
  rows = []
  for name, mine in times.items():
    metrics = timing_tables.time_metrics(mine)
    if name in setting.variants:
      metrics |= {
        "sequences_per_second": sequences_per_second(setting, mine).estimate,
        "gflops": gflops(step_flops(setting, name), mine),
        "unexplained": unexplained(pieces, times, name).estimate,
      }
    elif name == TORCH:
      metrics["sequences_per_second"] = sequences_per_second(
        setting, mine
      ).estimate
    elif name in counts:
      metrics["times_a_step"] = counts[name]
    rows.append(timing_tables.cell(str(setting), name, metrics))
  for name, figure in zip(
    ("vanilla", "myopic"), setting.published or (), strict=False
  ):
    rows.append(
      timing_tables.cell(
        str(setting), f"published {name}", {"sequences_per_second": figure}
      )
    )
  return rows


def seeds_setting(setting: StepSetting, seeds: int) -> str:
  """The `setting` of the cells of a number of seeds."""
  return f"{setting}, {counted(seeds, 'seed')} at once"


def seed_cells(setting: StepSetting, times: SeedTimes) -> list[dict[str, Any]]:
  """One cell for each variant and number of seeds."""
  return [
    timing_tables.cell(
      seeds_setting(setting, seeds),
      variant,
      timing_tables.time_metrics(mine)
      | {
        "sequences_per_second": sequences_per_second(
          setting, mine, seeds
        ).estimate
      },
    )
    for (variant, seeds), mine in times.items()
  ]


def seeds_panels(
  setting: StepSetting, times: SeedTimes
) -> list[figures.Curves]:
  """Time of a step, and sequences a second, against the number of seeds."""
  variants = dict.fromkeys(variant for variant, _ in times)
  counts = sorted({seeds for _, seeds in times})
  seconds = {
    variant: np.stack([times[variant, seeds].seconds for seeds in counts])
    for variant in variants
  }
  sequences = np.array(counts)[:, None] * setting.train.batch_size

  def panel(title, ylabel, values) -> figures.Curves:
    return figures.Curves(
      title,
      counts,
      "seeds",
      ylabel,
      {variant: values(each) for variant, each in seconds.items()},
      scale="log2",
      yscale="log",
      spread="quartiles",
    )

  return [
    panel("a step of all seeds", "ms", lambda each: 1e3 * each),
    panel(
      "throughput", "sequences/s of all seeds", lambda each: sequences / each
    ),
  ]
