"""How benchmarks show samples, ratios and targets, in tables and cells."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.benchmarks.timing import Samples
from jaxlook import reporting, stats

TARGET_SOURCE = "a target of this project"
"""The source of claims that say whether a benchmark reaches its target."""

RATIO_NOTE = (
  "A ratio is one of medians, with a 95% bootstrap interval over rounds."
)

_WORDS = {
  "supported": "reached",
  "contradicted": "missed",
  "inconclusive": "open",
}


def samples_table(samples: Mapping[tuple[str, str], Samples]) -> pa.Table:
  """All samples, one a row.

  Args:
    samples: by setting and contender.

  Returns:
    Columns setting, variant, round, calls, seconds and cpu_seconds.
  """
  columns: dict[str, list[Any]] = {
    name: []
    for name in (
      "setting",
      "variant",
      "round",
      "calls",
      "seconds",
      "cpu_seconds",
    )
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
  """An entry of result.json; benchmarks have no seeds, so the seed is 0."""
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


def target_tables(
  claims: Sequence[stats.Claim],
) -> dict[str, reporting.Rows]:
  """The table of targets by its title; no table where no target applies."""
  return {"Targets": target_table(claims)} if claims else {}


def target_table(claims: Sequence[stats.Claim]) -> reporting.Rows:
  """One row a target: reached, missed or open."""
  rows = [["target", "measured", "95% interval", "n", "verdict", ""]]
  return rows + [
    [
      claim.id,
      f"{reporting.number(claim.estimate)} {claim.unit}",
      interval_text(claim.ci95),
      str(claim.n),
      claim.verdict,
      _WORDS[claim.verdict],
    ]
    for claim in claims
  ]
