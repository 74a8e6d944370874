"""The decoding benchmark from end to end, at its smallest."""

from experiments.benchmarks import decoding
from tests.fixtures import binaries
from tests.fixtures.benchmarks import BenchmarkTestCase


class DecodingTest(BenchmarkTestCase):
  def test_decoding(self):
    """Each way is timed with a cache and without, by tokens added."""
    printed = self.run_binary(decoding)
    result = binaries.result(self.out)
    self.assertEqual(
      {(c["setting"], c["variant"]) for c in result["cells"]},
      {
        ("2 tokens", f"{way}, {how}")
        for way in ("greedy", "beam of 4")
        for how in ("with a cache", "anew")
      },
    )
    self.assertIn("tokens/s over anew", printed)
    self.assertTrue((self.out / "figures/tokens.png").exists())
