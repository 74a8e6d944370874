"""Tables, figures and reports."""

import pathlib
import tempfile

import numpy as np
from absl.testing import parameterized

from jaxlook import reporting, stats
from jaxlook.stats import myopia_gap
from tests.fixtures import base

VALUES = {"causal": {0: 0.1, 1: 0.3}, "myopic/kv": {1: 0.5}}


class TableTest(base.TestCase):
  def test_variant_table_shows_every_seed(self):
    """Mean, interval, n, each seed and those lost; baselines have none."""
    head, causal, myopic, zero = reporting.variant_table(
      VALUES, {"myopic/kv": [0]}, {"zero": 1.25}
    )
    ends = reporting.interval(stats.mean_interval([0.1, 0.3]).ci95)
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
    row = reporting.variant_table({"causal": {}}, {"causal": [0, 1]}, {})[1]
    self.assertEqual(row, ["causal", "-", "-", "0", "none", "", "0, 1"])

  def test_measure_table_shows_every_seed(self):
    """A row a measure and variant; no interval and no mean from nothing."""
    rows = reporting.measure_table({"loss": VALUES, "share": {"causal": {}}})
    ends = reporting.interval(stats.mean_interval([0.1, 0.3]).ci95)
    self.assertEqual(
      rows[1:],
      [
        ["loss", "causal", "0.2", ends, "2", "0.1 0.3"],
        ["loss", "myopic/kv", "0.5", "-", "1", "0.5"],
        ["share", "causal", "-", "-", "0", ""],
      ],
    )

  def test_comparisons_and_claims_carry_n_and_pairing(self):
    """Every number has its interval, n, pairing and verdict."""
    values = {"causal": {0: 0.1, 1: 0.2}, "myopic/kv": {0: 0.3, 1: 0.41}}
    rows = reporting.comparison_table(myopia_gap.differences(values))
    found = dict(zip(rows[0], rows[1], strict=True))
    self.assertEqual(found["n"], "2")
    self.assertEqual(found["pairing"], "paired by seed")
    self.assertEqual(found["estimate"], "0.205")
    claims = myopia_gap.ladder_claims(values, "nats", "here")
    rows = reporting.claim_table(claims)
    found = dict(zip(rows[0], rows[1], strict=True))
    self.assertEqual(found["verdict"], claims[0].verdict)
    self.assertEqual(found["estimate"], "0.205 nats")

  def test_signs_of_differences(self):
    """From the t interval, for every pair."""
    pairs = {
      "up": [1.0, 1.1, 1.2],
      "down": [-1.0, -1.1, -1.2],
      "open": [-1, 0, 1],
    }
    zero = dict.fromkeys(range(3), 0.0)
    rows = reporting.comparison_table(
      {
        name: stats.compare(dict(enumerate(values)), zero)
        for name, values in pairs.items()
      }
    )
    self.assertEqual(
      [row[rows[0].index("sign")] for row in rows[1:]],
      ["above 0", "below 0", "not settled"],
    )

  @parameterized.parameters((2, False), (5, False), (6, True))
  def test_bootstrap_intervals_of_few_seeds_are_not_shown(self, n, shown):
    """Nor is an effect size that is not defined."""
    rng = np.random.default_rng(0)
    one, other = (dict(enumerate(rng.normal(size=n))) for _ in range(2))
    rows = reporting.comparison_table({"a": stats.compare(one, other)})
    self.assertEqual("95% bootstrap" in rows[0], shown)
    self.assertLen(rows[1], len(rows[0]))
    self.assertNotIn("nan", " ".join(rows[1]))

  def test_markdown_is_a_table(self):
    """Header, rule and rows, cells between bars."""
    text = reporting.markdown([["a", "b"], ["1", "2"]])
    self.assertEqual(text, "| a | b |\n| --- | --- |\n| 1 | 2 |\n")


class MeanTest(base.TestCase):
  def test_seeds_that_are_there(self):
    """Diverged seeds are left out, and one seed has no interval."""
    ends = reporting.interval(stats.mean_interval([0.1, 0.3]).ci95)
    values = np.array([0.1, np.nan, 0.3])
    self.assertEqual(reporting.mean(values), f"0.2 {ends}")
    self.assertEqual(reporting.count(values), "2")
    self.assertEqual(reporting.mean(values[:2]), "-")


class FileTest(base.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(folder)

  def test_report_has_its_sections(self):
    """A title, headed sections, and paragraphs without a head."""
    path = self.folder / "report.md"
    reporting.write_report(path, "Title", [("", "intro\n"), ("Head", "body\n")])
    self.assertEqual(path.read_text(), "# Title\n\nintro\n\n## Head\n\nbody\n")
