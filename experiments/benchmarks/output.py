"""What the benchmarks share in their reports: samples, cells, ratios."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.benchmarks.timing import Samples
from jaxlook import reporting, stats


def samples_table(
  samples: Mapping[tuple[str, str], Samples],
) -> pa.Table:
  """Every sample: setting, contender, round, seconds, processor seconds."""
  columns: dict[str, list[Any]] = {
    name: []
    for name in ("setting", "variant", "round", "calls", "seconds")
    + ("cpu_seconds",)
  }
  for (setting, variant), found in samples.items():
    count = len(found.seconds)
    columns["setting"] += [setting] * count
    columns["variant"] += [variant] * count
    columns["round"] += range(count)
    columns["calls"] += [found.calls] * count
    columns["seconds"] += found.seconds.tolist()
    columns["cpu_seconds"] += found.cpu_seconds.tolist()
  return pa.table(columns)


def time_columns(found: Samples) -> list[str]:
  """Median, quartiles and busy cores of a contender, for a table."""
  low, high = (1e3 * end for end in found.quartiles)
  return [
    reporting.number(1e3 * found.median),
    f"{reporting.number(low)} .. {reporting.number(high)}",
    f"{found.busy_cores:.2f}",
  ]


def time_metrics(found: Samples) -> dict[str, float]:
  """The same numbers, for a cell of result.json."""
  low, high = found.quartiles
  return {
    "median_ms": 1e3 * found.median,
    "first_quartile_ms": 1e3 * low,
    "third_quartile_ms": 1e3 * high,
    "cpu_over_wall": found.busy_cores,
    "rounds": len(found.seconds),
    "calls_a_round": found.calls,
  }


def cell(
  setting: str, variant: str, metrics: Mapping[str, float]
) -> dict[str, Any]:
  """An entry of result.json; what has no seed has seed 0."""
  return {
    "setting": setting,
    "variant": variant,
    "seed": 0,
    "metrics": dict(metrics),
    "status": "done",
  }


def ratio_text(found: stats.Interval) -> str:
  """A ratio with its interval, for a table."""
  return f"{reporting.number(found.estimate)} {interval_text(found.ci95)}"


def interval_text(ends: tuple[float, float]) -> str:
  """An interval, or that there were too few samples for one."""
  return (
    reporting.interval(ends) if np.isfinite(ends).all() else "(few samples)"
  )
