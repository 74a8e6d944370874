"""Tables, cells and figure of the attention benchmark."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.benchmarks import (
  attention_contenders,
  attention_targets,
  machine,
  timing,
  timing_tables,
)
from experiments.benchmarks.attention_contenders import AttentionShape
from experiments.benchmarks.attention_measures import AttentionMeasures
from experiments.benchmarks.peak_memory import MIB
from experiments.benchmarks.timing import Samples
from experiments.common import results_writer
from jaxlook import reporting
from jaxlook.reporting import figures

FIGURE = "attention.png"
TITLE = "One attention, forward and backward"
_BASES = (
  attention_contenders.CAUSAL,
  attention_contenders.JAX_NN,
  attention_contenders.CUDNN,
  attention_contenders.TORCH,
)
_NOTES = (
  "Timed: the output and, for a given cotangent, the gradients to queries, keys"
  " and values. Rows named by a variant are `jaxlook.attend(...,"
  ' implementation="fused")`; that of `myopic/residual` includes the gradients'
  " to the context keys and values.",
  f"{timing_tables.RATIO_NOTE} Busy cores are processor time over wall time of"
  " this process. Temporary is the size of the temporary arrays that XLA"
  " reports.",
  "Matrix products over the visible pairs, forward plus backward: `causal` has"
  " 2 + 5, `myopic` 2 + 3. If they took all the time, the ratio would be 0.71."
  " A smaller ratio would mean that causal attention is slow.",
)


def results(
  found: AttentionMeasures,
  *,
  name: str,
  dtype: str,
  setup: str,
  platform: str,
) -> results_writer.Results:
  """Collects tables, figure, cells and claims.

  Args:
    found: what was measured.
    name: of the benchmark.
    dtype: of the arrays.
    setup: what was measured, in a line.
    platform: the backend, which decides which targets apply.

  Returns:
    The results, to be written.
  """
  claims = attention_targets.time_claims(found.times, dtype, platform)
  claims += attention_targets.memory_claims(found.peaks, dtype, platform)
  tables = {
    f"Time at {shape} (batch x N x heads x head width), {dtype}": times_table(
      samples, found.temps[shape]
    )
    for shape, samples in found.times.items()
  }
  if found.memory:
    tables["Peak memory above the inputs, MiB"] = memory_table(found)
  drawings = {}
  if drawn := panels(found):
    drawings[FIGURE] = results_writer.Drawing(
      lambda path: figures.panels_figure(
        path, [drawn], title=TITLE, setup=setup
      ),
      f"{setup}. Time of one sequence and head. Lines: medians; bands:"
      " quartiles over rounds, or the range over processes.",
    )
  return results_writer.Results(
    name=name,
    title=TITLE,
    setup=setup,
    notes=[*_NOTES, *_contender_notes(found), *found.notes],
    tables=tables,
    figures=drawings,
    cells=cells(found),
    claims=claims,
    claim_tables=timing_tables.target_tables(claims),
    measurements=measurements(found),
  )


def _contender_notes(found: AttentionMeasures) -> list[str]:
  """What the other contenders are, and whether PyTorch is missing."""
  notes = [
    f"{name}: {text}."
    for name, text in attention_contenders.ABOUT.items()
    if any(name in samples for samples in found.times.values())
  ]
  if machine.torch_module() is None:
    notes.append("PyTorch is not installed, so it is not timed.")
  return notes


def times_table(
  samples: dict[str, Samples], temps: dict[str, int | None]
) -> reporting.Rows:
  """One row a contender, with ratios to the baselines that were timed."""
  bases = [name for name in _BASES if name in samples]
  rows = [
    ["contender", "median ms", "quartiles ms", "busy cores", "temporary MiB"]
    + [f"over {base}" for base in bases]
    + ["n"]
  ]
  for name, mine in samples.items():
    ratios = [
      timing_tables.ratio_text(
        timing.ratio(mine.seconds, samples[base].seconds)
      )
      if name != base
      else "1"
      for base in bases
    ]
    temp = temps.get(name)
    shown = "-" if temp is None else reporting.number(temp / MIB)
    rows.append(
      [
        name,
        *timing_tables.time_columns(mine),
        shown,
        *ratios,
        str(len(mine.seconds)),
      ]
    )
  return rows


def memory_table(found: AttentionMeasures) -> reporting.Rows:
  """One row a shape and contender, with the range over processes."""
  rows = [["shape", "contender", "median", "range", "temporary", "n", "method"]]
  for shape, by_name in found.peaks.items():
    for name, peaks in by_name.items():
      first = found.memory[shape][name][0]
      temp = first["temp_bytes"]
      mib = peaks / MIB
      rows.append(
        [
          str(shape),
          name,
          reporting.number(float(np.median(mib))) if len(peaks) else "-",
          reporting.interval((mib.min(), mib.max())) if len(peaks) else "-",
          "-" if temp is None else reporting.number(temp / MIB),
          str(len(peaks)),
          first["method"],
        ]
      )
  return rows


def cells(found: AttentionMeasures) -> list[dict[str, Any]]:
  """One cell for each shape and contender, of time and of memory."""
  rows = []
  for shape, samples in found.times.items():
    for name, mine in samples.items():
      metrics = timing_tables.time_metrics(mine)
      temp = found.temps[shape].get(name)
      if temp is not None:
        metrics["temporary_mib"] = temp / MIB
      rows.append(timing_tables.cell(f"time {shape}", name, metrics))
  for shape, by_name in found.peaks.items():
    for name, peaks in by_name.items():
      metrics: dict[str, float] = {"processes": len(peaks)}
      if len(peaks):
        metrics["peak_mib"] = float(np.median(peaks)) / MIB
      temp = found.memory[shape][name][0]["temp_bytes"]
      if temp is not None:
        metrics["temporary_mib"] = temp / MIB
      rows.append(timing_tables.cell(f"memory {shape}", name, metrics))
  return rows


def measurements(found: AttentionMeasures) -> pa.Table:
  """All samples of time and the peak memory of all processes, one a row."""
  times = timing_tables.samples_table(
    {
      (f"time {shape}", name): mine
      for shape, samples in found.times.items()
      for name, mine in samples.items()
    }
  )
  rows = [
    {
      "setting": f"memory {shape}",
      "variant": name,
      "round": index,
      "peak_bytes": row["peak_bytes"],
    }
    for shape, by_name in found.memory.items()
    for name, processes in by_name.items()
    for index, row in enumerate(processes)
  ]
  schema = pa.schema([*times.schema, ("peak_bytes", pa.int64())])
  peaks = pa.Table.from_pylist(rows, schema=schema)
  return pa.concat_tables([times, peaks], promote_options="default")


def panels(found: AttentionMeasures) -> list[figures.Curves]:
  """Time and memory against N."""
  times = {
    shape: {
      name: 1e3 * mine.seconds / (shape.batch * shape.heads)
      for name, mine in samples.items()
    }
    for shape, samples in found.times.items()
  }
  peaks = {
    shape: {name: values / MIB for name, values in by_name.items()}
    for shape, by_name in found.peaks.items()
  }
  heads = {f"{s.batch}xNx{s.heads}x{s.head_width}" for s in found.memory}
  drawn = [
    _panel("time", "ms per sequence and head", times, "quartiles"),
    _panel(
      f"peak memory, {', '.join(sorted(heads))}",
      "MiB above the inputs",
      peaks,
      "range",
    ),
  ]
  return [panel for panel in drawn if panel.curves]


def _panel(
  title: str,
  ylabel: str,
  values: Mapping[AttentionShape, Mapping[str, np.ndarray]],
  spread: figures.Spread,
) -> figures.Curves:
  """Values by shape and contender, one a round or process, against N."""
  shapes = sorted(values, key=lambda shape: shape.length)
  names = dict.fromkeys(name for shape in shapes for name in values[shape])
  most = max(
    (v.size for each in values.values() for v in each.values()), default=0
  )
  curves = {}
  for name in names:
    curves[name] = np.full((len(shapes), most), np.nan)
    for place, shape in enumerate(shapes):
      row = values[shape].get(name, np.empty(0))
      curves[name][place, : row.size] = row
  return figures.Curves(
    title,
    [shape.length for shape in shapes],
    "length N",
    ylabel,
    {name: rows for name, rows in curves.items() if np.isfinite(rows).any()},
    scale="log2",
    yscale="log",
    spread=spread,
  )
