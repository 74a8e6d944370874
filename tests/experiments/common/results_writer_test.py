"""The one writer: what the report holds in which order, what is written."""

import contextlib
import io
import json
import os
import pathlib
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import flagsaver, parameterized

from experiments.common import results_writer
from jaxlook import stats
from jaxlook.runs.store import open_store
from tests.fixtures import base

CLAIM = stats.claim(
  "one",
  "a statement",
  "a source",
  "nats",
  stats.mean_interval(np.array([0.9, 1.0, 1.1])),
  low=0.0,
)
ROWS = [["head"], ["row"]]


def touch(path):
  """Draws an empty file."""
  path.parent.mkdir(exist_ok=True)
  path.touch()


class ResultsWriterTest(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.root = pathlib.Path(root) / "run"

  def write(self, config=None, **fields):
    """Writes results with these fields; returns the report and the output."""
    results = results_writer.Results(
      name="test", title="A title", setup="A setup", **fields
    )
    with (
      flagsaver.flagsaver(preset="smoke"),
      open_store(self.root, {"width": 4} | (config or {})) as store,
      contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
      results_writer.write(store, results)
    return (self.root / "report.md").read_text(), printed.getvalue()

  def _check_order(self, text, *parts):
    """All parts are in the text, once each, in this order."""
    for part in parts:
      self.assertEqual(text.count(part), 1, part)
    places = [text.index(part) for part in parts]
    self.assertEqual(places, sorted(places))

  def test_the_report_shows_the_fields_in_order(self):
    """Setup, notes, figures, sections, tables, claims; it prints the tables."""
    report, printed = self.write(
      notes=["A note."],
      figures={"main.png": results_writer.Drawing(touch, "A caption.")},
      sections=[
        results_writer.Section(
          heading="Part",
          figures={"part.png": results_writer.Drawing(touch)},
          notes=["A remark."],
          tables={"Inner": ROWS},
        )
      ],
      tables={"Last": ROWS},
      claims=[CLAIM],
    )
    self._check_order(
      report,
      "# A title\n",
      "A setup.\n",
      "A note.\n",
      "![](figures/main.png)\n\n*A caption.*\n",
      "## Part\n\n![](figures/part.png)\n\nA remark.\n",
      "## Inner\n\n| head |",
      "## Last\n",
      "## Claims\n",
      "a statement",
    )
    self._check_order(printed, "Inner", "Last", "Claims", "wrote ")

  def test_a_fault_in_drawing_loses_nothing_else(self):
    """Numbers and report are there before, the other figures afterwards."""

    def broken(path):
      self.assertTrue((self.root / "cells.parquet").exists())
      self.assertTrue((self.root / "result.json").exists())
      self.assertTrue((self.root / "report.md").exists())
      raise ValueError("Expected end of text,\n  found '$'")

    said = "ValueError: Expected end of text, found '$'"
    with (
      contextlib.redirect_stderr(io.StringIO()) as errors,
      self.assertRaisesRegex(SystemExit, "^1$"),
    ):
      self.write(
        figures={
          "bad.png": results_writer.Drawing(broken, "A caption."),
          "main.png": results_writer.Drawing(touch, "Another."),
        },
        tables={"Last": ROWS},
      )
    self.assertEqual(
      errors.getvalue(),
      f"{self.root}/figures/bad.png: cannot be drawn: {said}; all else is"
      " written\n",
    )
    self._check_order(
      (self.root / "report.md").read_text(),
      f"The figure bad.png could not be drawn: {said}\n",
      "![](figures/main.png)\n\n*Another.*\n",
      "## Last\n",
    )
    self.assertEqual(os.listdir(self.root / "figures"), ["main.png"])

  def test_claim_tables_replace_the_table_of_claims(self):
    """The claims are in result.json all the same; and none needs no table."""
    report, _ = self.write(claims=[CLAIM], claim_tables={"Targets": ROWS})
    self.assertIn("## Targets", report)
    self.assertNotIn("## Claims", report)
    result = json.loads((self.root / "result.json").read_text())
    self.assertEqual([claim["id"] for claim in result["claims"]], ["one"])
    report, _ = self.write()
    self.assertNotIn("##", report)

  @parameterized.parameters(
    ([0.1, 0.3], 2, "about 8"),
    ([0.1, -0.1], 2, "more than 1000"),
    ([0.1, 0.3], 1, None),
    ([0.1, 0.3], None, None),
    ([0.1, 0.11], 2, None),
  )
  def test_how_many_seeds_would_settle_a_claim(self, values, seeds, expected):
    """Of open claims on seeds; n of others counts something else."""
    claim = stats.claim(
      "open",
      "it is above 0",
      "us",
      "nats",
      stats.mean_interval(values),
      low=0.0,
    )
    config = {} if seeds is None else {"seeds": seeds}
    report, printed = self.write(config, claims=[claim])
    self.assertEqual("Not settled" in report, expected is not None)
    self.assertEqual("Not settled" in printed, expected is not None)
    if expected:
      self.assertIn(f"| open | {claim.estimate:.4g} nats |", report)
      self.assertIn(f"| 2 | {expected} |", report)
    (entry,) = json.loads((self.root / "result.json").read_text())["claims"]
    needed = claim.seeds_needed if expected else None
    self.assertEqual(entry.get("seeds_needed"), needed)

  def test_result_holds_name_preset_config_and_cells(self):
    """And cells.parquet has a row for each cell."""
    cells = results_writer.seed_cells(
      {"causal": {0: {"loss": 0.5}, 2: {"loss": 0.25}}}, {"causal": [1]}
    )
    report, _ = self.write(cells=cells)
    result = json.loads((self.root / "result.json").read_text())
    self.assertEqual(
      (result["experiment"], result["preset"], result["config"]),
      ("test", "smoke", {"width": 4}),
    )
    self.assertEqual(result["cells"], cells)
    table = pq.read_table(self.root / "cells.parquet").to_pydict()
    self.assertEqual(table["seed"], [0, 2, 1])
    self.assertEqual(table["loss"], [0.5, 0.25, None])
    self.assertIn("Of causal, the seeds [1] diverged", report)

  def test_the_report_names_the_seeds_that_diverged(self):
    """By task setting and variant, in one sentence each."""
    cell = {"variant": "causal", "setting": "open", "metrics": {}}
    cells = [
      {**cell, "seed": seed, "status": status}
      for seed, status in enumerate(("diverged", "done", "diverged"))
    ]
    cells += results_writer.seed_cells({}, {"myopic": [3]})
    report, _ = self.write(cells=cells)
    self.assertIn("Of open causal, the seeds [0, 2] diverged", report)
    self.assertIn("Of myopic, the seeds [3] diverged", report)
    self.assertEqual(report.count("diverged"), 2)

  def test_measurements_and_arrays_are_written_where_there_are_any(self):
    """Each into its file, which the last line names."""
    _, printed = self.write()
    self.assertNotIn("measurements", printed)
    self.assertFalse((self.root / "measurements.parquet").exists())
    _, printed = self.write(
      measurements=pa.table({"x": [1, 2]}), arrays={"y": np.eye(3)}
    )
    self.assertIn("arrays.npz, measurements.parquet, report.md", printed)
    table = pq.read_table(self.root / "measurements.parquet")
    self.assertEqual(table.to_pydict(), {"x": [1, 2]})
    with np.load(self.root / "arrays.npz") as arrays:
      np.testing.assert_array_equal(arrays["y"], np.eye(3))
