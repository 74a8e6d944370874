"""Tables and cells of the training step benchmark."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks import output, pieces, timing
from experiments.benchmarks.pieces import Piece, step_flops
from experiments.benchmarks.stepping import CAUSAL, Setting, rate
from experiments.benchmarks.timing import Samples
from experiments.benchmarks.torch_step import TORCH
from jaxlook import reporting, stats
from jaxlook.reporting import figures

Times = Mapping[str, Samples]
SeedTimes = Mapping[tuple[str, int], Samples]


def gflops(flops: float, found: Samples) -> float:
  """Billions of floating-point operations a second."""
  return flops / found.median / 1e9


def own_rate(parts: Sequence[Piece], times: Times) -> float:
  """GFLOP/s of the model's products with weights, each as often as it is."""
  mine = [p for p in parts if p.name.startswith(pieces.MATMULS)]
  seconds = sum(p.repeats * times[p.name].median for p in mine)
  return sum(p.repeats * p.flops for p in mine) / seconds / 1e9


def steps_table(
  setting: Setting, parts: Sequence[Piece], times: Times
) -> reporting.Rows:
  """One row a variant, and the published figures."""
  own = own_rate(parts, times)
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
      [variant, *output.time_columns(mine)]
      + [output.ratio_text(rate(setting, mine))]
      + ["1" if variant == CAUSAL else output.ratio_text(ratio)]
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


def parts_table(
  setting: Setting, parts: Sequence[Piece], times: Times
) -> reporting.Rows:
  """Where the time of a step goes, and what is left unexplained."""
  steps = {variant: times[variant].seconds for variant in setting.variants}
  rows = [
    ["piece", "times a step", "ms each", "ms a step", "GFLOP/s"]
    + [f"share of {variant}" for variant in setting.variants]
  ]
  for p in parts:
    mine = times[p.name]
    shares = [
      output.ratio_text(timing.ratio(p.repeats * mine.seconds, step))
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
  left = [unexplained(parts, times, variant) for variant in setting.variants]
  return [
    *rows,
    ["unexplained", *["-"] * 4, *(output.ratio_text(each) for each in left)],
  ]


def unexplained(
  parts: Sequence[Piece], times: Times, variant: str
) -> stats.Interval:
  """The share of a step that its pieces do not account for."""
  mine = [p for p in parts if _belongs(p, variant)]

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
  return kind != pieces.ATTENTION or which == variant


def rates_table(
  setting: Setting, parts: Sequence[Piece], times: Times
) -> reporting.Rows:
  """The rate of matrix products: at the model's shapes, and at a square."""
  rows = [
    ["matrix products", "GFLOP/s"],
    [
      f"those of {setting.name} with weights",
      reporting.number(own_rate(parts, times)),
    ],
  ]
  return rows + [
    [name, reporting.number(gflops(pieces.SQUARE_FLOPS, times[name]))]
    for name in pieces.SQUARES.values()
    if name in times
  ]


def seeds_table(setting: Setting, times: SeedTimes) -> reporting.Rows:
  """One row a variant and number of seeds."""
  rows = [
    ["variant", "seeds", "median ms", "quartiles ms", "busy cores"]
    + ["sequences/s of all", "time over the fewest seeds", "n"]
  ]
  fewest = min(seeds for _, seeds in times)
  for (variant, seeds), mine in times.items():
    ratio = timing.ratio(mine.seconds, times[variant, fewest].seconds)
    rows.append(
      [variant, str(seeds), *output.time_columns(mine)]
      + [output.ratio_text(rate(setting, mine, seeds))]
      + ["1" if seeds == fewest else output.ratio_text(ratio)]
      + [str(len(mine.seconds))]
    )
  return rows


def cells(
  setting: Setting, parts: Sequence[Piece], times: Times
) -> list[dict[str, Any]]:
  """One cell for each variant, piece and published figure; all have seed 0."""
  counts = {p.name: p.repeats for p in parts}
  rows = []
  for name, mine in times.items():
    metrics = output.time_metrics(mine)
    if name in setting.variants:
      metrics |= {
        "sequences_per_second": rate(setting, mine).estimate,
        "gflops": gflops(step_flops(setting, name), mine),
        "unexplained": unexplained(parts, times, name).estimate,
      }
    elif name == TORCH:
      metrics["sequences_per_second"] = rate(setting, mine).estimate
    elif name in counts:
      metrics["times_a_step"] = counts[name]
    rows.append(output.cell(str(setting), name, metrics))
  for name, figure in zip(
    ("vanilla", "myopic"), setting.published or (), strict=False
  ):
    rows.append(
      output.cell(
        str(setting), f"published {name}", {"sequences_per_second": figure}
      )
    )
  return rows


def seeds_setting(setting: Setting, seeds: int) -> str:
  """How a cell names a number of seeds."""
  return f"{setting}, {seeds} seeds at once"


def seed_cells(setting: Setting, times: SeedTimes) -> list[dict[str, Any]]:
  """One cell for each variant and number of seeds."""
  return [
    output.cell(
      seeds_setting(setting, seeds),
      variant,
      output.time_metrics(mine)
      | {"sequences_per_second": rate(setting, mine, seeds).estimate},
    )
    for (variant, seeds), mine in times.items()
  ]


def seeds_panels(setting: Setting, times: SeedTimes) -> list[figures.Curves]:
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
