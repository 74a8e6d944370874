"""Tables and cells of the benchmark of block sizes."""

import dataclasses
from collections.abc import Mapping

from experiments.benchmarks import timing, timing_tables
from experiments.benchmarks.refit_times import UNCHANGED, RefitTimes
from experiments.benchmarks.timing import Samples
from experiments.common import results_writer
from jaxlook import reporting
from jaxlook.attention.block_sizes import BlockLimits


def results(
  limits: BlockLimits, found: RefitTimes, *, name: str
) -> results_writer.Results:
  """Collects tables and cells.

  Args:
    limits: the limits that were changed.
    found: the times.
    name: of the benchmark.

  Returns:
    The results, to be written.
  """
  shown = ", ".join(
    f"{field} {value}" for field, value in dataclasses.asdict(limits).items()
  )
  samples = {
    (label, change): times
    for label, by_change in found.items()
    for change, times in by_change.items()
  }
  return results_writer.Results(
    name=name,
    title="Sizes of blocks and steps",
    setup=f"{UNCHANGED.capitalize()}: {shown}",
    notes=[
      f"A change whose interval over '{UNCHANGED}' lies below 1 is faster."
      " Put it into `jaxlook.attention.block_sizes.MEASURED` and run this"
      " again, since the numbers depend on each other."
      f" {timing_tables.RATIO_NOTE}",
    ],
    tables={label: _times_table(times) for label, times in found.items()},
    cells=[
      timing_tables.cell(label, change, timing_tables.time_metrics(times))
      for (label, change), times in samples.items()
    ],
    measurements=timing_tables.samples_table(samples),
  )


def _times_table(samples: Mapping[str, Samples]) -> reporting.Rows:
  """Time under each change, and over that under the unchanged limits."""
  rows = [["limits", "ms", "quartiles", "busy cores", f"over {UNCHANGED}"]]
  for change, times in samples.items():
    over = timing.ratio(times.seconds, samples[UNCHANGED].seconds)
    rows.append(
      [
        change,
        *timing_tables.time_columns(times),
        timing_tables.ratio_text(over),
      ]
    )
  return rows
