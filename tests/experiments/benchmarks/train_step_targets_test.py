"""Targets of the training step benchmark; samples are made up."""

from absl.testing import parameterized

from experiments.benchmarks import train_step_targets
from experiments.benchmarks.train_step_presets import PRESETS
from tests.fixtures import base
from tests.fixtures.benchmarks import samples_around


class TrainStepTargetsTest(base.TestCase):
  @parameterized.parameters((0.5, "supported"), (1.0, "contradicted"))
  def test_verdicts_follow_the_numbers(self, seconds, verdict):
    """Half a second a step of 512 sequences is 1.75 times 584 or better."""
    setting = PRESETS["cpu"].settings[0]
    times = {
      "causal": samples_around(seconds),
      "myopic": samples_around(0.9 * seconds if seconds < 1 else seconds),
      "myopic/residual": samples_around(seconds),
    }
    claims = train_step_targets.step_claims(setting, times, "cpu")
    self.assertEqual([c.verdict for c in claims], [verdict] * 4)
    self.assertEmpty(train_step_targets.step_claims(setting, times, "gpu"))
