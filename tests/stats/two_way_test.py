"""Intervals over seeds and windows."""

import numpy as np
import scipy.stats
from absl.testing import parameterized

from jaxlook.stats import mean_interval, over_sequences, two_way_interval
from jaxlook.stats.two_way import OVER_TEXT
from tests.fixtures import base


class TwoWayTest(base.TestCase):
  def test_equals_the_mean_squares(self):
    """A loop over the textbook's sums of squares gives the same interval."""
    values = np.random.default_rng(0).normal(size=(3, 5)) + np.arange(5.0)
    found = two_way_interval(values)
    mean, seeds, windows = values.mean(), values.mean(1), values.mean(0)
    ms_seeds = 5 * sum((seeds - mean) ** 2) / 2
    ms_windows = 3 * sum((windows - mean) ** 2) / 4
    ms_rest = (
      sum(
        (values[e, w] - seeds[e] - windows[w] + mean) ** 2
        for e in range(3)
        for w in range(5)
      )
      / 8
    )
    half = np.sqrt(
      (
        scipy.stats.t.ppf(0.975, 2) ** 2 * ms_seeds
        + scipy.stats.t.ppf(0.975, 4) ** 2 * (ms_windows - ms_rest)
      )
      / 15
    )
    np.testing.assert_allclose(found.estimate, mean, rtol=1e-12)
    np.testing.assert_allclose(found.ci95, (mean - half, mean + half))
    np.testing.assert_allclose(
      found.standard_error, np.sqrt((ms_seeds + ms_windows - ms_rest) / 15)
    )
    self.assertEqual((found.n, found.windows), (3, 5))

  def test_without_window_effects_it_is_the_interval_over_seeds(self):
    """Windows that vary less than the rest add nothing."""
    seeds = np.array([0.1, 0.4, 0.3])[:, None]
    # The rest cancels in every column, so the windows' means are equal.
    rest = np.array([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]])
    found = two_way_interval(seeds + rest)
    self.assertEqual(found.windows_error, 0.0)
    wanted = mean_interval(seeds[:, 0])
    np.testing.assert_allclose(found.ci95, wanted.ci95, rtol=1e-12)

  def test_seeds_that_agree_leave_the_interval_over_windows(self):
    """Equal seeds are one model on random text."""
    windows = np.random.default_rng(1).normal(size=7)
    found = two_way_interval(np.tile(windows, (4, 1)))
    np.testing.assert_allclose(
      found.ci95, over_sequences(windows).ci95, rtol=1e-12
    )

  def test_never_narrower_than_over_seeds(self):
    """For any values."""
    rng = np.random.default_rng(2)
    for _ in range(50):
      values = rng.exponential(size=rng.integers(2, 6, size=2))
      low, high = two_way_interval(values).ci95
      inner = mean_interval(values.mean(axis=1)).ci95
      self.assertLessEqual(low, inner[0] + 1e-12)
      self.assertGreaterEqual(high, inner[1] - 1e-12)

  def test_axes_and_units(self):
    """Order does not matter; a shift moves the interval, a factor scales it."""
    values = np.random.default_rng(3).normal(size=(4, 6))
    found = two_way_interval(values)
    turned = two_way_interval(values[::-1, ::-1])
    np.testing.assert_allclose(turned.ci95, found.ci95)
    moved = two_way_interval(3.0 - 2.0 * values)
    np.testing.assert_allclose(
      moved.ci95, (3.0 - 2.0 * found.ci95[1], 3.0 - 2.0 * found.ci95[0])
    )

  def test_equal_values_have_no_width(self):
    """Rounding does not look like a spread."""
    found = two_way_interval(np.full((3, 7), 0.1))
    self.assertEqual(found.standard_error, 0.0)
    self.assertEqual(found.ci95[0], found.ci95[1])

  @parameterized.parameters(((3,),), ((1, 4),), ((4, 1),), ((2, 2, 2),))
  def test_refuses_shapes(self, shape):
    """One seed or one window has no spread."""
    with self.assertRaisesRegex(ValueError, "axes seed and window"):
      two_way_interval(np.zeros(shape))

  def test_refuses_nan(self):
    """The message counts the bad values."""
    values = np.zeros((2, 3))
    values[1] = np.nan
    with self.assertRaisesRegex(ValueError, "3 of 6 numbers that are not fini"):
      two_way_interval(values)

  def test_over_sequences(self):
    """The t interval over windows, which says what it leaves out."""
    values = [1.0, 2.0, 4.0]
    found = over_sequences(values)
    self.assertEqual(found.ci95, mean_interval(values).ci95)
    self.assertEqual((found.n, found.pairing), (3, OVER_TEXT))
    with self.assertRaisesRegex(ValueError, "one number per window"):
      over_sequences([1.0])
    with self.assertRaisesRegex(ValueError, "1 of 2 numbers"):
      over_sequences([1.0, np.inf])
