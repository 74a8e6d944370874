"""The benchmark of block sizes from end to end, at its smallest."""

from experiments.benchmarks import refit
from tests.fixtures import binaries
from tests.fixtures.benchmarks import BenchmarkTestCase


class RefitTest(BenchmarkTestCase):
  def test_refit(self):
    """Each changed limit is timed against those that are there."""
    printed = self.run_binary(refit)
    result = binaries.result(self.out)
    self.assertEqual(result["experiment"], "benchmarks.refit")
    self.assertEqual(
      [(c["setting"], c["variant"]) for c in result["cells"]],
      [
        (f"{own} at 2x16x2x8", name)
        for own in ("causal", "myopic")
        for name in ("as it is", "lanes=1")
      ],
    )
    self.assertIn("over as it is", printed)
