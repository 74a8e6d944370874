"""What is shown of numbers that are known."""

import pathlib
import tempfile

from experiments.reports import path_star as stars_report
from experiments.reports import path_star_tables
from jaxlook.planning.stars import questions as stars
from jaxlook.planning.stars.settings import WEIGHTS
from jaxlook.stats.myopia_gap import CAUSAL, KV
from tests.fixtures import base, path_stars


class StarsReportTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.every = path_stars.settings()

  def test_tables_and_measurements(self):
    """A row for every arm, and every finite number once, with its place."""
    tables = path_star_tables.tables(self.every)
    self.assertLen(tables["Accuracy"], 1 + 7)
    for rows in tables.values():
      self.assertEqual({len(row) for row in rows}, {len(rows[0])})
    table = stars_report.measurements(self.every, (4, 5, 6)).to_pylist()
    mine = [
      row["value"]
      for row in table
      if (row["setting"], row["variant"]) == (WEIGHTS, KV)
      and (row["leaves"], row["measure"]) == ("held out", "moved")
      and (row["place"], row["seed"]) == (stars.GOAL, 6)
    ]
    self.assertLen(mine, 3 * 3)
    self.assertAlmostEqual(mine[0], 0.751)
    self.assertEqual({row["seed"] for row in table}, {4, 5, 6})

  def test_what_cannot_be_tested(self):
    """Predictions are named that have no test as ordinary training failed."""
    half = path_stars.found(0.9, 0.5, WEIGHTS)
    every = {WEIGHTS: {CAUSAL: half, KV: half}}
    title = "Claims that cannot be tested: causal training has not learned"
    named = [row[0] for row in path_star_tables.tables(every)[title][1:]]
    self.assertEqual(named, [f"B4/weights/{KV}/no_loss/path"])
    self.assertNotIn(title, path_star_tables.tables(self.every))

  def test_figures(self):
    """Both can be drawn."""
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    drawings = stars_report.drawings(self.every, "three seeds")
    for file, drawing in drawings.items():
      drawing.draw(folder / file)
    self.assertLen(list(folder.glob("*.png")), 2)
