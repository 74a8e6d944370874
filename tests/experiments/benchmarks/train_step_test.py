"""The training step benchmark from end to end, at its smallest."""

from absl.testing import parameterized

from experiments.benchmarks import train_step
from tests.fixtures.benchmarks import BenchmarkTestCase


class TrainStepTest(BenchmarkTestCase):
  def test_train_step(self):
    """Steps, pieces and seeds have times, and every share is shown."""
    printed = self.run_binary(train_step)
    result, _ = self.check_files("seeds.png")
    self.assertEqual(result["experiment"], "benchmarks.train_step")
    cells = {
      (c["setting"], c["variant"]): c["metrics"] for c in result["cells"]
    }
    setting = next(iter(cells))[0]
    for variant in ("causal", "myopic/residual"):
      metrics = cells[setting, variant]
      self.assertGreater(metrics["sequences_per_second"], 0.0)
      self.assertIn("unexplained", metrics)
      self.assertIn((setting, f"attention: {variant}"), cells)
    for piece in ("LayerNorm", "optimiser", "drawing the batch", "loss"):
      self.assertGreaterEqual(cells[setting, piece]["times_a_step"], 1)
    self.assertIn((f"{setting}, 2 seeds at once", "myopic"), cells)
    self.assertIn("unexplained", printed)
    self.assertEmpty(result["claims"])

  @parameterized.parameters(
    ({"seed_counts": ["0"]}, "^--seed_counts: must be numbers"),
    ({"seed_counts": ["few"]}, "^--seed_counts: must be whole"),
    ({"out": "/dev/null/run"}, "^--out: .* is a file or lies in one"),
  )
  def test_refusals(self, values, message):
    """Bad numbers of seeds and folders are refused by the flag's name."""
    self.refuse(train_step, message, **values)
