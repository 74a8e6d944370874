"""What a study found, written: report, result and what was measured.

Not a binary.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.common import app, training_flags
from experiments.common.study import Study
from jaxlook import reporting, stats
from jaxlook.runs.atomic_files import write_bytes, write_table
from jaxlook.runs.environment import environment
from jaxlook.runs.store import Store


@dataclasses.dataclass(frozen=True)
class Findings:
  """What a study found, for `write`.

  Attributes:
    claims: with verdicts.
    tables: by title, for report and terminal.
    figures: captions by file name; the files are in `store.figures`.
    metrics: by variant and seed, numbers by name: cells of the result.
    cells: more of them, as arms have them.
    lost: by variant, seeds that diverged.
    measurements: every number that was measured, one a row.
    arrays: what has too many axes for rows, by name.
    notes: paragraphs for the report.
  """

  claims: Sequence[stats.Claim]
  tables: Mapping[str, reporting.Rows]
  figures: Mapping[str, str]
  metrics: Mapping[str, Mapping[int, Mapping[str, float]]] = dataclasses.field(
    default_factory=dict
  )
  cells: Sequence[Mapping[str, Any]] = ()
  lost: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
  measurements: pa.Table | None = None
  arrays: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  notes: Sequence[str] = ()


def _diverged(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
  """The seeds that diverged, by setting and variant; none for most."""
  gone: dict[str, list[int]] = {}
  for cell in cells:
    if cell["status"] == "diverged":
      models = " ".join(filter(None, (cell.get("setting"), cell["variant"])))
      gone.setdefault(models, []).append(cell["seed"])
  return gone


def write(store: Store, study: Study, found: Findings) -> None:
  """Writes report, measurements and, last, the result; prints the tables.

  Args:
    store: the run store.
    study: what was studied.
    found: what to write.
  """
  where = environment()
  tables = dict(found.tables)
  if found.claims:
    tables["Claims"] = reporting.claim_table(found.claims)
  cells = [
    *found.cells,
    *(
      {"variant": variant, "seed": seed, "metrics": metrics, "status": "done"}
      for variant, seeds in found.metrics.items()
      for seed, metrics in seeds.items()
    ),
    *(
      {"variant": variant, "seed": seed, "metrics": {}, "status": "diverged"}
      for variant, seeds in found.lost.items()
      for seed in seeds
    ),
  ]
  sections = [
    ("", f"{study.setup}.\n\n{reporting.environment_line(where)}.\n"),
    *(("", f"{note}\n") for note in found.notes),
    *(
      (
        "",
        f"Of {models}, the seeds {seeds} diverged; they are left out.\n",
      )
      for models, seeds in _diverged(cells).items()
    ),
    *(
      ("", f"![](figures/{file})\n\n*{caption}*\n")
      for file, caption in found.figures.items()
    ),
    *((name, reporting.markdown(rows)) for name, rows in tables.items()),
  ]
  reporting.write_report(store.root / "report.md", study.title, sections)
  written = "report.md, result.json, cells.parquet and figures"
  if found.measurements is not None:
    write_table(store.root / "measurements.parquet", found.measurements)
    written = f"measurements.parquet, {written}"
  if found.arrays:
    with io.BytesIO() as buffer:
      np.savez_compressed(buffer, **found.arrays)
      write_bytes(store.root / "arrays.npz", buffer.getvalue())
    written = f"arrays.npz, {written}"
  store.write_result(
    {
      "experiment": study.name,
      "preset": training_flags.PRESET.value,
      "config": store.config,
      "environment": where,
      "cells": cells,
      "claims": [claim.as_json() for claim in found.claims],
    }
  )
  for name, rows in tables.items():
    app.print_table(name, rows)
  print(f"wrote {store.root}/{written}")
