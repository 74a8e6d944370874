"""The number of seeds that would settle a claim."""

import math

import numpy as np
from absl.testing import parameterized

from jaxlook.stats import mean_interval, seeds_needed, verdict
from tests.fixtures import base


def _with(mean, sd, n=4):
  """Values of exactly this mean and standard deviation."""
  raw = np.random.default_rng(0).normal(size=n)
  raw -= raw.mean()
  return mean_interval(mean + sd * raw / raw.std(ddof=1))


class PowerTest(base.TestCase):
  @parameterized.parameters((0.5, 44), (1.0, 13), (0.8, 19))
  def test_equals_the_published_tables(self, effect, count):
    """Two-sided paired t test at 5% with 90% power, as G*Power gives it."""
    self.assertEqual(seeds_needed(_with(effect, 1.0), low=0.0), count)

  def test_that_many_seeds_settle_it(self):
    """In simulated experiments, about as often as asked."""
    rng, true, sd = np.random.default_rng(1), 0.8, 1.0
    count = seeds_needed(_with(true, sd), low=0.0, power=0.8)
    runs = rng.normal(true, sd, size=(2_000, count))
    settled = [
      verdict(mean_interval(run).ci95, low=0.0) == "supported" for run in runs
    ]
    self.assertBetween(np.mean(settled), 0.77, 0.86)

  def test_units_signs_and_bounds(self):
    """The distance to the nearest bound counts, in standard deviations."""
    plain = seeds_needed(_with(1.0, 1.0), low=0.0)
    self.assertEqual(seeds_needed(_with(-5.0, 5.0), low=0.0), plain)
    self.assertEqual(seeds_needed(_with(3.0, 1.0), low=0.0, high=4.0), plain)
    self.assertEqual(seeds_needed(_with(1.0, 1.0, n=9), high=0.0), plain)

  def test_without_an_answer(self):
    """On a bound, and too near to it."""
    self.assertIsNone(seeds_needed(_with(0.0, 1.0), low=0.0))
    self.assertIsNone(seeds_needed(_with(0.01, 1.0), low=0.0))
    self.assertIsNone(seeds_needed(mean_interval([1.0, 1.0]), low=1.0))
    self.assertEqual(seeds_needed(mean_interval([1.0, 1.0]), low=0.0), 2)

  def test_refusals(self):
    """Without a bound there is nothing to settle."""
    with self.assertRaisesRegex(ValueError, "give low, high or both"):
      seeds_needed(_with(1.0, 1.0))
    for power in (0.5, 1.0, math.nan):
      with self.assertRaisesRegex(ValueError, "power must lie in"):
        seeds_needed(_with(1.0, 1.0), low=0.0, power=power)
