"""The benchmark of reading text, at its smallest, and its verdicts."""

from experiments.benchmarks import feeding, feeding_report, feeding_times
from tests.fixtures.benchmarks import BenchmarkTestCase, samples_around


class FeedingTest(BenchmarkTestCase):
  def test_feeding(self):
    """Reading, steps and both are timed, and the ratios have targets."""
    printed = self.run_binary(feeding)
    result, _ = self.check_files("chunk.png")
    self.assertEqual(
      [c["variant"] for c in result["cells"]],
      ["reading", "reading, documents apart", "steps", "steps and reading"],
    )
    for cell in result["cells"]:
      self.assertGreater(cell["metrics"]["median_ms"], 0.0)
    self.assertLen(result["claims"], 2)
    self.assertIn("over the steps", printed)

  def test_verdicts_follow_the_numbers(self):
    """A verdict for reading itself, one for steps with reading beside them."""
    steps = samples_around(1.0)
    for read, both, wanted in (
      (samples_around(0.01), steps, ["supported", "supported"]),
      (
        samples_around(0.2),
        samples_around(1.2),
        ["contradicted", "contradicted"],
      ),
    ):
      found = feeding_report.claims(
        {
          ("m", feeding_times.READ): read,
          ("m", feeding_times.STEPS): steps,
          ("m", feeding_times.BOTH): both,
        }
      )
      self.assertEqual([claim.verdict for claim in found], wanted)
