"""The one writer of what a run found: result, tables, report, figures.

Not a binary. Every binary that has something to report fills a `Results` and
calls `write`. Figures come last, so no fault in drawing loses a number.
"""

import dataclasses
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.common import app, faults, shared_flags
from jaxlook import reporting, stats
from jaxlook.runs.atomic_files import write_bytes, write_table
from jaxlook.runs.environment import environment
from jaxlook.runs.folder import InUse
from jaxlook.runs.store import Grown, Store
from jaxlook.training import FinishedArm

Cell = Mapping[str, Any]
"""One entry of `cells` in result.json; see `jaxlook.runs.result_schema`."""


UNADJUSTED = "Each verdict is of one claim; none is adjusted for their number."
"""A note for reports with many claims."""


@dataclasses.dataclass(frozen=True)
class Drawing:
  """A figure, drawn after the results are written.

  Attributes:
    draw: draws it to a path.
    caption: for the report; may be empty.
  """

  draw: Callable[[Path], None]
  caption: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the report under its own heading: figures, notes, tables.

  Attributes:
    heading: the part's heading.
    figures: by file name in `store.figures`.
    notes: paragraphs below the figures.
    tables: by title, below the notes.
  """

  heading: str
  figures: Mapping[str, Drawing] = dataclasses.field(default_factory=dict)
  notes: Sequence[str] = ()
  tables: Mapping[str, reporting.Rows] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Results:
  """What a run found.

  The report shows the fields in the order given here: setup, notes, figures,
  sections, tables, claims. A terminal shows the tables.

  Attributes:
    name: of the experiment.
    title: of the report.
    setup: what was run, in one line without a full stop.
    notes: paragraphs.
    figures: by file name in `store.figures`.
    sections: parts of the report with headings, as one for each task setting.
    tables: by title.
    claims: with their verdicts, for result.json.
    claim_tables: by title, how the report shows the claims; by default one
      table, "Claims", with all of them.
    cells: for result.json and cells.parquet.
    measurements: every number that was measured, one a row, for
      measurements.parquet; None for none.
    arrays: by name, measurements with too many axes for rows, for arrays.npz.
  """

  name: str
  title: str
  setup: str
  notes: Sequence[str] = ()
  figures: Mapping[str, Drawing] = dataclasses.field(default_factory=dict)
  sections: Sequence[Section] = ()
  tables: Mapping[str, reporting.Rows] = dataclasses.field(default_factory=dict)
  claims: Sequence[stats.Claim] = ()
  claim_tables: Mapping[str, reporting.Rows] | None = None
  cells: Sequence[Cell] = ()
  measurements: pa.Table | None = None
  arrays: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def closing_tables(self) -> dict[str, reporting.Rows]:
    """The tables at the report's end, by title: `tables`, then the claims."""
    return {**self.tables, **self.shown_claims}

  @property
  def shown_claims(self) -> Mapping[str, reporting.Rows]:
    """How the report shows the claims, by title."""
    if self.claim_tables is not None:
      return self.claim_tables
    if not self.claims:
      return {}
    return {"Claims": reporting.claim_table(self.claims)}


def seed_cells(
  metrics: Mapping[str, Mapping[int, Mapping[str, float]]],
  diverged: Mapping[str, Sequence[int]] | None = None,
) -> list[Cell]:
  """Cells of models that have a variant and a seed, and no task setting.

  Args:
    metrics: by variant and seed, numbers by name.
    diverged: by variant, the seeds that diverged; None for none.

  Returns:
    One cell for each variant and seed.
  """
  return [
    *(
      {"variant": variant, "seed": seed, "metrics": numbers, "status": "done"}
      for variant, seeds in metrics.items()
      for seed, numbers in seeds.items()
    ),
    *(
      {"variant": variant, "seed": seed, "metrics": {}, "status": "diverged"}
      for variant, seeds in (diverged or {}).items()
      for seed in seeds
    ),
  ]


def arm_cells(
  arm: FinishedArm, metrics: Mapping[str, np.ndarray]
) -> list[Cell]:
  """The cells of an arm, with more that was measured.

  Args:
    arm: gives a cell a seed.
    metrics: numbers by name, one a seed, [E].

  Returns:
    The cells in order. Numbers that are not finite are left out, as are all
    numbers of seeds that diverged.
  """
  return [
    cell
    | {
      "metrics": cell["metrics"]
      | {
        name: float(values[place])
        for name, values in metrics.items()
        if arm.alive[place] and np.isfinite(values[place])
      }
    }
    for place, cell in enumerate(arm.cells)
  ]


def write(store: Store, results: Results) -> None:
  """Writes numbers, report and figures, in this order; prints the tables.

  Nothing is written if another run has added to the folder since this one
  began: its report has all of this one's arms, and more.

  Args:
    store: the run store.
    results: what to write.

  Raises:
    UsageError: another run holds the folder of `--out`.
    SystemExit: a figure could not be drawn. All else is written, and the report
      says so.
  """
  results = _with_seeds_needed(results, store.config.get("seeds"))
  missing: Mapping[str, str] = {}
  try:
    with store.alone():
      said, missing = _write_files(store, results)
  except Grown as error:
    said = f"{error}; the run that added to it writes the report"
  except InUse as error:
    raise app.UsageError("out", str(error)) from error
  sections = [section.tables for section in results.sections]
  for tables in (*sections, results.closing_tables):
    for title, rows in tables.items():
      app.print_table(title, rows)
  print(said)
  for file, reason in missing.items():
    print(
      f"{store.figures / file}: cannot be drawn: {reason}; all else is written",
      file=sys.stderr,
    )
  if missing:
    sys.exit(faults.FAILED)


def _write_files(store: Store, results: Results) -> tuple[str, dict[str, str]]:
  """Writes numbers, report and figures.

  Returns:
    What is written, in a line; and by file, why a figure could not be drawn.
  """
  where = environment()
  seeds = store.config.get("seeds")
  written = ["report.md", "result.json", "cells.parquet and figures"]
  if results.measurements is not None:
    write_table(store.root / "measurements.parquet", results.measurements)
    written.insert(0, "measurements.parquet")
  if results.arrays:
    with io.BytesIO() as buffer:
      np.savez_compressed(buffer, **results.arrays)
      write_bytes(store.root / "arrays.npz", buffer.getvalue())
    written.insert(0, "arrays.npz")
  store.write_result(
    {
      "experiment": results.name,
      "preset": shared_flags.PRESET.value,
      "config": store.config,
      "environment": where,
      "cells": results.cells,
      "claims": [_entry(claim, seeds) for claim in results.claims],
    }
  )
  _write_report(store, results, where, {})
  missing = _draw_all(store, results)
  if missing:
    _write_report(store, results, where, missing)
  return f"wrote {store.root}/{', '.join(written)}", missing


def _with_seeds_needed(results: Results, seeds: Any) -> Results:
  """Adds a table of how many seeds would settle what is open.

  Args:
    results: what a run found.
    seeds: number of seeds of the run; claims on more than these do not count
      seeds. None if the run has no seeds.
  """
  rows = [["claim", "estimate", "95% interval", "n", "--seeds that would do"]]
  for claim in results.claims:
    if claim.verdict == "inconclusive" and _counts_seeds(claim, seeds):
      needed = claim.seeds_needed
      rows.append(
        [
          claim.id,
          f"{reporting.number(claim.estimate)} {claim.unit}",
          reporting.interval(claim.ci95),
          str(claim.n),
          f"about {needed}" if needed else "more than 1000",
        ]
      )
  if len(rows) == 1:
    return results
  title = "Not settled: seeds for 90% power, if the estimate is true"
  return dataclasses.replace(
    results, claim_tables={**results.shown_claims, title: rows}
  )


def _counts_seeds(claim: stats.Claim, seeds: Any) -> bool:
  """Whether n of a claim counts seeds, and not rounds or repetitions."""
  return isinstance(seeds, int) and claim.n <= seeds


def _entry(claim: stats.Claim, seeds: Any) -> dict[str, Any]:
  """The entry of a claim in result.json."""
  entry = claim.as_json()
  if not _counts_seeds(claim, seeds):
    entry.pop("seeds_needed", None)
  return entry


def _draw_all(store: Store, results: Results) -> dict[str, str]:
  """Draws the figures; returns, by file, why one could not be drawn."""
  missing = {}
  for part in (results, *results.sections):
    for file, drawing in part.figures.items():
      try:
        drawing.draw(store.figures / file)
      # Whatever is wrong with one figure, the others are drawn.
      except Exception as error:
        said = faults.line(error) or f"{type(error).__name__}: {error}"
        missing[file] = " ".join(said.split())
  return missing


def _write_report(
  store: Store,
  results: Results,
  where: Mapping[str, Any],
  missing: Mapping[str, str],
) -> None:
  """Writes report.md."""
  reporting.write_report(
    store.root / "report.md",
    results.title,
    list(_report(results, where, missing)),
  )


def _report(
  results: Results, where: Mapping[str, Any], missing: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
  """The report as headings, empty for none, and their Markdown."""
  yield "", f"{results.setup}.\n\n{reporting.environment_line(where)}.\n"
  for note in (*results.notes, *_diverged(results.cells)):
    yield "", f"{note}\n"
  for file, drawing in results.figures.items():
    yield "", _figure(file, drawing, missing)
  for section in results.sections:
    parts = [
      _figure(file, drawing, missing)
      for file, drawing in section.figures.items()
    ]
    parts += [f"{note}\n" for note in section.notes]
    yield section.heading, "\n".join(parts)
    for title, rows in section.tables.items():
      yield title, reporting.markdown(rows)
  for title, rows in results.closing_tables.items():
    yield title, reporting.markdown(rows)


def _figure(file: str, drawing: Drawing, missing: Mapping[str, str]) -> str:
  """A figure and its caption in Markdown, or why it is missing."""
  if file in missing:
    return f"The figure {file} could not be drawn: {missing[file]}\n"
  image = f"![](figures/{file})\n"
  return f"{image}\n*{drawing.caption}*\n" if drawing.caption else image


def _diverged(cells: Sequence[Cell]) -> list[str]:
  """One sentence for each setting and variant of which seeds diverged."""
  seeds: dict[str, list[int]] = {}
  for cell in cells:
    if cell["status"] == "diverged":
      models = " ".join(filter(None, (cell.get("setting"), cell["variant"])))
      seeds.setdefault(models, []).append(cell["seed"])
  return [
    f"Of {models}, the seeds {each} diverged; they are left out."
    for models, each in seeds.items()
  ]
