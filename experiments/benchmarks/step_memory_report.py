"""Table, cells and figure of the benchmark of step memory."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from experiments.benchmarks import timing_tables
from experiments.benchmarks.peak_memory import GIB, MIB
from experiments.benchmarks.step_memory_peak import (
  StepBytes,
  StepPeaks,
  StepShape,
)
from experiments.common import results_writer
from jaxlook import reporting
from jaxlook.reporting import figures

FIGURE = "memory.png"
TITLE = "Memory of a training step"


def results(
  found: StepPeaks,
  *,
  name: str,
  setup: str,
  loss_tokens: int,
  limit: float,
) -> results_writer.Results:
  """Collects table, figure and cells.

  Args:
    found: what was measured.
    name: of the benchmark.
    setup: what was measured, in a line.
    loss_tokens: tokens whose logits exist at a time, in the ways with few.
    limit: bytes that a step may take.

  Returns:
    The results, to be written.
  """
  measured = {
    key: step for key, step in found.items() if isinstance(step, StepBytes)
  }
  sizes = list(dict.fromkeys(size for size, _ in found))
  return results_writer.Results(
    name=name,
    title=TITLE,
    setup=setup,
    notes=_notes(loss_tokens, limit),
    tables={"Bytes of a step, MiB": table(found)},
    figures={
      FIGURE: results_writer.Drawing(
        lambda path: figures.panels_figure(
          path,
          [[_panel(size, measured) for size in sizes]],
          title=TITLE,
          setup=setup,
        ),
        f"{setup}. One process each.",
      )
    },
    cells=[
      timing_tables.cell(
        str(size),
        way,
        {
          name: float(value)
          for name, value in dataclasses.asdict(step).items()
          if isinstance(value, int)
        },
      )
      for (size, way), step in measured.items()
    ],
    measurements=pa.Table.from_pylist(
      [
        {"setting": str(size), "way": way} | dataclasses.asdict(step)
        for (size, way), step in measured.items()
      ]
    ),
  )


def _notes(loss_tokens: int, limit: float) -> list[str]:
  return [
    "In MiB. On paper: parameters, their gradient, the optimiser's state, and"
    " the activations that differentiation keeps, whatever the compiler does."
    " The compiler may keep less (it computes again, or in place) or need"
    " working memory. XLA's compiler for CPUs merges blocks that are computed"
    " again with the first ones, and so keeps their activations.",
    "Ways: plain (the reference attention, which holds all pairs; all logits);"
    " own attention (jaxlook's); and few logits (of"
    f" {loss_tokens} tokens at a time); and blocks again (computed again in the"
    " backward pass). Each way includes the ones before. A step that needs more"
    f" than the free memory, {limit / GIB:.3g} GiB, did not run. Numbers are of"
    " one process each.",
  ]


def table(found: StepPeaks) -> reporting.Rows:
  """One row a size and way."""
  rows = [
    ["model", "way", "parameters", "gradient", "optimiser", "activations"]
    + ["on paper", "compiled", "measured peak", "over paper", "how"]
  ]
  for (size, way), step in found.items():
    if isinstance(step, str):
      rows.append([str(size), way, *["-"] * 8, step])
      continue
    over = "-" if step.peak is None else f"{step.peak / step.paper:.2f}"
    columns = (step.params, step.params, step.optimizer, step.activations)
    columns += (step.paper, step.compiled, step.peak)
    shown = ["-" if x is None else f"{x / MIB:.4g}" for x in columns]
    rows.append([str(size), way, *shown, over, step.method])
  return rows


def _panel(
  size: StepShape, measured: dict[tuple[StepShape, str], StepBytes]
) -> figures.Curves:
  """The bytes of one size, by way."""
  ways = [way for at, way in measured if at == size]
  steps = [measured[size, way] for way in ways]

  def gib(values: Sequence[int | None]) -> np.ndarray:
    return np.array([[np.nan if x is None else x / GIB] for x in values])

  return figures.Curves(
    str(size),
    [way.replace(" ", "\n", 1) for way in ways],
    "",
    "GiB",
    {
      "on paper": gib([step.paper for step in steps]),
      "compiled": gib([step.compiled for step in steps]),
      "measured peak": gib([step.peak for step in steps]),
    },
    scale="steps",
  )
