"""Tables, cells and figure of the attention benchmark."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.benchmarks import (
  contenders,
  output,
  targets,
  timing,
)
from experiments.benchmarks.contenders import Shape
from experiments.benchmarks.measuring import Measurements
from experiments.benchmarks.timing import Samples
from experiments.common import results_writer
from jaxlook import reporting
from jaxlook.reporting import figures
from jaxlook.runs.store import Store

FIGURE = "attention.png"
TITLE = "One attention, forward and backward"
_BASES = (
  contenders.CAUSAL,
  contenders.JAX_NN,
  contenders.CUDNN,
  contenders.TORCH,
)


def results(
  store: Store,
  found: Measurements,
  name: str,
  dtype: str,
  setup: str,
  platform: str,
) -> results_writer.Results:
  """Draws the figure, and says all that was found."""
  claims = targets.time_claims(found.times, dtype, platform)
  claims += targets.memory_claims(found.peaks, dtype, platform)
  tables = {
    f"Time at {shape} (batch x N x heads x head width), {dtype}": times_table(
      samples, found.temps[shape]
    )
    for shape, samples in found.times.items()
  }
  if found.memory:
    tables["Peak memory above the inputs, MiB"] = memory_table(found)
  drawn = panels(found)
  if drawn:
    figures.panels_figure(
      store.figures / FIGURE, [drawn], title=TITLE, setup=setup
    )
  about = (
    f"{name}: {text}."
    for name, text in contenders.ABOUT.items()
    if any(name in samples for samples in found.times.values())
  )
  missing = ["PyTorch is not installed, so it does not compete."]
  return results_writer.Results(
    name=name,
    title=TITLE,
    setup=setup,
    notes=[
      "Output and the gradients to queries, keys and values, for a given"
      " cotangent. Rows named by a variant are `jaxlook.attend(...,"
      ' implementation="fused")`; of `myopic/residual` the gradients to the'
      " context keys and values, too.",
      "A ratio is one of medians, with a 95% bootstrap interval over rounds."
      " Busy cores are processor time over wall time of this process, temporary"
      " arrays XLA's own account.",
      "By matrix products over the pairs that are seen, forward and backward,"
      " `causal` has 2 + 5 and `myopic` 2 + 3: 0.71 of the time if these were"
      " all of it. A smaller ratio would say that causal attention is slow.",
      *about,
      *(missing if contenders.torch_module() is None else ()),
      *found.notes,
    ],
    tables=tables,
    figures={
      FIGURE: f"{setup}. Time of one sequence and head. Lines: medians; bands:"
      " quartiles over rounds, or the range over processes."
    }
    if drawn
    else {},
    cells=cells(found),
    claims=claims,
    claim_tables=targets.tables(claims),
    measurements=measurements(found),
  )


def times_table(
  samples: dict[str, Samples], temps: dict[str, int | None]
) -> reporting.Rows:
  """One row a contender, with ratios to those that others compare with."""
  bases = [name for name in _BASES if name in samples]
  rows = [
    ["contender", "median ms", "quartiles ms", "busy cores", "temporary MiB"]
    + [f"over {base}" for base in bases]
    + ["n"]
  ]
  for name, mine in samples.items():
    ratios = [
      output.ratio_text(timing.ratio(mine.seconds, samples[base].seconds))
      if name != base
      else "1"
      for base in bases
    ]
    temp = temps.get(name)
    shown = "-" if temp is None else reporting.number(temp / targets.MIB)
    rows.append(
      [name, *output.time_columns(mine), shown, *ratios, str(len(mine.seconds))]
    )
  return rows


def memory_table(found: Measurements) -> reporting.Rows:
  """One row a shape and contender, with the range over processes."""
  rows = [["shape", "contender", "median", "range", "temporary", "n", "method"]]
  for shape, by_name in found.peaks.items():
    for name, peaks in by_name.items():
      first = found.memory[shape][name][0]
      temp = first["temp_bytes"]
      mib = peaks / targets.MIB
      rows.append(
        [
          str(shape),
          name,
          reporting.number(float(np.median(mib))) if len(peaks) else "-",
          reporting.interval((mib.min(), mib.max())) if len(peaks) else "-",
          "-" if temp is None else reporting.number(temp / targets.MIB),
          str(len(peaks)),
          first["method"],
        ]
      )
  return rows


def cells(found: Measurements) -> list[dict[str, Any]]:
  """One cell for each shape and contender; what has no seed has seed 0."""
  rows = []
  for shape, samples in found.times.items():
    for name, mine in samples.items():
      metrics = output.time_metrics(mine)
      temp = found.temps[shape].get(name)
      if temp is not None:
        metrics["temporary_mib"] = temp / targets.MIB
      rows.append(output.cell(f"time {shape}", name, metrics))
  for shape, by_name in found.peaks.items():
    for name, peaks in by_name.items():
      metrics: dict[str, float] = {"processes": len(peaks)}
      if len(peaks):
        metrics["peak_mib"] = float(np.median(peaks)) / targets.MIB
      temp = found.memory[shape][name][0]["temp_bytes"]
      if temp is not None:
        metrics["temporary_mib"] = temp / targets.MIB
      rows.append(output.cell(f"memory {shape}", name, metrics))
  return rows


def measurements(found: Measurements) -> pa.Table:
  """Every sample of time, and every process's memory, one a row."""
  times = output.samples_table(
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


def panels(found: Measurements) -> list[figures.Curves]:
  """Time and memory against N."""
  times = {
    shape: {
      name: 1e3 * mine.seconds / (shape.batch * shape.heads)
      for name, mine in samples.items()
    }
    for shape, samples in found.times.items()
  }
  peaks = {
    shape: {name: values / targets.MIB for name, values in by_name.items()}
    for shape, by_name in found.peaks.items()
  }
  heads = {f"{s.batch}xNx{s.heads}x{s.head_width}" for s in found.memory}
  drawn = [
    _panel("time", "ms for a sequence and head", times, "quartiles"),
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
  values: Mapping[Shape, Mapping[str, np.ndarray]],
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
