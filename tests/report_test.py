"""Tables, figures and reports."""

import pathlib
import tempfile

import numpy as np

from jaxlook import ablation, figures, report, stats
from tests import base

VALUES = {"causal": {0: 0.1, 1: 0.3}, "myopic/kv": {1: 0.5}}


class TableTest(base.TestCase):
  def test_variant_table_shows_every_seed(self):
    """Mean, interval, n, each seed and those lost; baselines have none."""
    head, causal, myopic, zero = report.variant_table(
      VALUES, {"myopic/kv": [0]}, {"zero": 1.25}
    )
    ends = report.interval(stats.mean_interval([0.1, 0.3]).ci95)
    self.assertEqual(
      dict(zip(head, causal, strict=True)),
      {
        "variant": "causal",
        "mean": "0.2",
        "95% t interval": ends,
        "n": "2",
        "pairing": "none",
        "each seed": "0.1 0.3",
        "diverged": "none",
      },
    )
    self.assertEqual(myopic, ["myopic/kv", "0.5", "-", "1", "none", "0.5", "0"])
    self.assertEqual(zero[:2], ["zero", "1.25"])

  def test_a_variant_without_seeds_has_no_mean(self):
    """If all seeds diverged there is nothing to average."""
    row = report.variant_table({"causal": {}}, {"causal": [0, 1]}, {})[1]
    self.assertEqual(row, ["causal", "-", "-", "0", "none", "", "0, 1"])

  def test_comparisons_and_claims_carry_n_and_pairing(self):
    """Every number has its interval, n, pairing and verdict."""
    values = {"causal": {0: 0.1, 1: 0.2}, "myopic/kv": {0: 0.3, 1: 0.41}}
    rows = report.comparison_table(ablation.differences(values))
    found = dict(zip(rows[0], rows[1], strict=True))
    self.assertEqual(found["n"], "2")
    self.assertEqual(found["pairing"], "paired by seed")
    self.assertEqual(found["estimate"], "0.205")
    claims = ablation.ladder_claims(values, "nats", "here")
    rows = report.claim_table(claims)
    found = dict(zip(rows[0], rows[1], strict=True))
    self.assertEqual(found["verdict"], claims[0].verdict)
    self.assertEqual(found["estimate"], "0.205 nats")

  def test_markdown_is_a_table(self):
    """Header, rule and rows, cells between bars."""
    text = report.markdown([["a", "b"], ["1", "2"]])
    self.assertEqual(text, "| a | b |\n| --- | --- |\n| 1 | 2 |\n")


class FileTest(base.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(folder)

  def test_figure_is_a_png_even_with_diverged_seeds(self):
    """Curves with NaN, variants without values: a whole PNG all the same."""
    path = self.folder / "figures" / "losses.png"
    losses = np.array([[0.5, 0.6], [0.4, np.nan], [np.nan, np.nan]])
    figures.ladder_figure(
      path,
      curves={"causal": (np.arange(3), losses)},
      finals={"causal": {0: 0.4}, "myopic/kv": {}},
      baselines={"zero": 1.0},
      unit="nats",
      title="title",
      setup="setup",
    )
    self.assertEqual(path.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
    self.assertEqual([p.name for p in path.parent.iterdir()], ["losses.png"])

  def test_band_is_the_t_interval_of_the_finite_seeds(self):
    """Row by row, the band is `mean_interval` of what did not diverge."""
    losses = np.array(
      [[1.0, 2.0, 4.0], [1.0, 3.0, np.nan], [2.0] + [np.nan] * 2]
    )
    mean, low, high = figures.band(losses)
    for row, values in enumerate(([1.0, 2.0, 4.0], [1.0, 3.0])):
      expected = stats.mean_interval(values)
      self.assertAlmostEqual(mean[row], expected.estimate)
      self.assertAlmostEqual(low[row], expected.ci95[0])
      self.assertAlmostEqual(high[row], expected.ci95[1])
    self.assertEqual((mean[2], low[2], high[2]), (2.0, 2.0, 2.0))

  def test_report_has_its_sections(self):
    """A title, headed sections, and paragraphs without a head."""
    path = self.folder / "report.md"
    report.write_report(path, "Title", [("", "intro\n"), ("Head", "body\n")])
    self.assertEqual(path.read_text(), "# Title\n\nintro\n\n## Head\n\nbody\n")
