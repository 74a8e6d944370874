"""Simulated crossed effects, and how often intervals cover their mean."""

import numpy as np
from absl.testing import parameterized

from jaxlook.stats import mean_interval, two_way_interval
from jaxlook.stats.crossed import EFFECTS, Crossed, coverage
from tests.fixtures import base


class CrossedTest(base.TestCase):
  @parameterized.parameters(*EFFECTS)
  def test_mean_and_variance(self, effects):
    """The mean of a layout has mean 0 and the shares' sum as variance."""
    layout = Crossed(effects, 3, 8, (0.5, 1.0, 0.5))
    means = layout.draw(np.random.default_rng(0), 20_000).mean(axis=(1, 2))
    self.assertAlmostEqual(means.mean(), 0.0, delta=0.05)
    self.assertAlmostEqual(means.var(), 2.0, delta=0.2)

  def test_shares_are_of_their_axes(self):
    """A seed's effect is the same for all windows, and the other way round."""
    rng = np.random.default_rng(1)
    seeds = Crossed("normal", 3, 4, (1.0, 0.0, 0.0)).draw(rng, 2)
    np.testing.assert_array_equal(seeds, np.repeat(seeds[..., :1], 4, axis=-1))
    windows = Crossed("normal", 3, 4, (0.0, 1.0, 0.0)).draw(rng, 2)
    np.testing.assert_array_equal(windows, np.repeat(windows[:, :1], 3, axis=1))

  def test_counts_equal_a_loop(self):
    """The counts are those of the public intervals."""
    layout = Crossed("exponential", 2, 4, (0.2, 0.6, 0.2))
    found = coverage(layout, np.random.default_rng(2), 60)
    counts = {"t": 0, "two-way": 0}
    for values in layout.draw(np.random.default_rng(2), 60):
      for kind, interval in (
        ("t", mean_interval(values.mean(axis=1))),
        ("two-way", two_way_interval(values)),
      ):
        counts[kind] += interval.ci95[0] <= 0.0 <= interval.ci95[1]
    self.assertEqual(found, counts)
    self.assertLess(found["t"], 60)

  @parameterized.product(
    seeds=(2, 4, 8),
    shares=((0.9, 0.05, 0.05), (0.05, 0.9, 0.05), (0.05, 0.05, 0.9)),
  )
  def test_normal_effects_are_covered(self, seeds, shares):
    """In 95% of the cases or more, whatever dominates."""
    layout = Crossed("normal", seeds, 16, shares)
    found = coverage(layout, np.random.default_rng(3), 2_000)
    self.assertGreater(found["two-way"] / 2_000, 0.94)

  def test_seeds_alone_do_not_cover_text(self):
    """Where windows dominate, the t interval over 4 seeds is too narrow."""
    layout = Crossed("normal", 4, 64, (0.05, 0.9, 0.05))
    found = coverage(layout, np.random.default_rng(4), 1_500)
    self.assertLess(found["t"] / 1_500, 0.7)
    self.assertGreater(found["two-way"] / 1_500, 0.94)

  def test_refusals(self):
    """Fields out of range."""
    with self.assertRaisesRegex(ValueError, "effects must be one of"):
      Crossed("uniform", 2, 2, (1.0, 0.0, 0.0))
    with self.assertRaisesRegex(ValueError, "at least 2, not 1 and 2"):
      Crossed("normal", 1, 2, (1.0, 0.0, 0.0))
    with self.assertRaisesRegex(ValueError, "must not be negative"):
      Crossed("normal", 2, 2, (1.0, -1.0, 0.0))
