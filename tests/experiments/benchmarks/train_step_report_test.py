"""FLOP of a step, and what its pieces leave unexplained."""

from experiments.benchmarks import train_step_pieces, train_step_report
from experiments.benchmarks.train_step_pieces import Piece
from experiments.benchmarks.train_step_presets import PRESETS
from tests.fixtures import base
from tests.fixtures.benchmarks import samples_around


class TrainStepReportTest(base.TestCase):
  def test_flops_of_the_published_model(self):
    """Of its weights' products, the 151 MFLOP a sequence that are known."""
    setting = PRESETS["cpu"].settings[0]
    weights = sum(
      p.repeats * p.flops for p in train_step_pieces.products(setting)
    )
    per_sequence = weights / setting.train.batch_size
    self.assertAlmostEqual(per_sequence / 1e6, 151, delta=1)
    causal, myopic = (
      train_step_pieces.step_flops(setting, v) - weights
      for v in ("causal", "myopic")
    )
    self.assertAlmostEqual(myopic / causal, 4 / 6)

  def test_what_is_left_unexplained(self):
    """A step of 10 with pieces of 2 x 3 and 1 leaves 0.3."""
    parts = [
      Piece("LayerNorm", 2, lambda: None),
      Piece("attention: causal", 1, lambda: None),
      Piece("attention: myopic", 1, lambda: None),
    ]
    times = {
      "causal": samples_around(10.0),
      "LayerNorm": samples_around(3.0),
      "attention: causal": samples_around(1.0),
      "attention: myopic": samples_around(5.0),
    }
    left = train_step_report.unexplained(parts, times, "causal")
    self.assertAlmostEqual(left.estimate, 0.3)
