"""The studies from end to end, at their smallest scale."""

import numpy as np
import pyarrow.parquet as pq

from tests.fixtures import binaries


class StudiesTest(binaries.StudyTestCase):
  def test_gradient_anatomy(self):
    """Shares sum to one at every distance; every figure is there."""
    result = self.run_study("gradient_anatomy", "--sequences=8")
    self.assertEqual(
      {cell["variant"] for cell in result["cells"]},
      {"causal", "myopic/kv", "untrained"},
    )
    self.assertLen(list(self.out.glob("figures/*.png")), 4)
    table = pq.read_table(self.out / "measurements.parquet")
    by = ["variant", "seed", "gradient", "layer", "head"]
    for share in ("norm_share", "signed_share"):
      sums = table.group_by(by).aggregate([(share, "sum")])[f"{share}_sum"]
      self.assertLen(sums, 3 * 2 * 4 * 1 * 2)
      np.testing.assert_allclose(sums, 1.0, atol=1e-6)
    ids = {claim["id"] for claim in result["claims"]}
    self.assertContainsSubset(
      {"L1/causal/W_K/layer0", "L1/useful/mean", "W13/residual/late"}, ids
    )

  def test_horizon(self):
    """Every arm of the sweep is there, with all its seeds."""
    result = self.run_study("horizon", "--horizons=0")
    # Two seeds of causal, and for each stop h = 0, a leak and a distance.
    self.assertLen(result["cells"], 2 * (1 + 2 * (1 + 1 + 1)))
    self.assertTrue((self.out / "figures" / "dial.png").exists())
    self.assertIn("kv/gap", {claim["id"] for claim in result["claims"]})

  def test_local_myopia_on_text(self):
    """Gap and bonus of both stop points, from arms with a teacher."""
    result = self.run_study(
      "local_myopia", "--task=text", f"--cache={self.root / 'cache'}"
    )
    self.assertEqual(
      {cell["variant"] for cell in result["cells"]},
      {
        *("causal", "myopic/residual", "myopic/kv"),
        *("teacher/residual", "teacher/kv"),
      },
    )
    self.assertContainsSubset(
      {"residual/gap", "residual/bonus", "kv/bonus_below_gap"},
      {claim["id"] for claim in result["claims"]},
    )
    report = (self.out / "report.md").read_text()
    self.assertIn("vanilla weights, local context", report)

  def test_placebo(self):
    """As many repetitions as asked for, each with both orders."""
    result = self.run_study("placebo", "--repetitions=6")
    self.assertEqual(
      {claim["id"]: claim["n"] for claim in result["claims"]},
      dict.fromkeys(("t", "bootstrap", "two-way", "t/loss", "two-way/loss"), 6),
    )
    table = pq.read_table(self.out / "measurements.parquet")
    self.assertEqual(table.num_rows, 6 * 4)
