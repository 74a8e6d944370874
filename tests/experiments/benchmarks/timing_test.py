"""Timing in turns, and ratios with their intervals; all clocks are faked."""

import numpy as np
from absl.testing import parameterized

from experiments.benchmarks import timing
from jaxlook import stats
from tests.fixtures import base
from tests.fixtures.benchmarks import Clock


class TimingTest(base.TestCase):
  def test_a_sample_is_the_time_of_one_call(self):
    """Short work is called several times, long work once; both are means."""
    clock = Clock()
    short, long = clock.work(0.003), clock.work(2.0)
    done = []
    found = timing.interleave(
      {"short": short, "long": long},
      3,
      clock=clock,
      cpu_clock=lambda: 1.5 * clock.now,
      tick=done.append,
    )
    self.assertEqual(done, [1, 2, 3])
    self.assertEqual(found["long"].calls, 1)
    self.assertGreaterEqual(found["short"].calls * 0.003, timing.SAMPLE_SECONDS)
    for name, seconds in (("short", 0.003), ("long", 2.0)):
      np.testing.assert_allclose(found[name].seconds, [seconds] * 3)
      self.assertAlmostEqual(found[name].busy_cores, 1.5)
    self.assertEqual(long.calls, 2 + 3)  # Two to warm up.
    part = found["long"].divided_by(4)
    np.testing.assert_allclose(part.seconds, [0.5] * 3)
    self.assertEqual(part.calls, 4)

  def test_a_clock_that_stands_still_ends(self):
    """Work that takes no measurable time is not repeated for ever."""
    found = timing.interleave(
      {"nothing": lambda: None}, 2, clock=Clock(), cpu_clock=Clock()
    )
    self.assertLessEqual(found["nothing"].calls, 1000)

  @parameterized.parameters(1, 2, 3, 4, 9)
  def test_order(self, count):
    """Everyone runs in every round, and first as often as last."""
    names = [str(index) for index in range(count)]
    rows = [timing.order(names, row) for row in range(2 * count)]
    for row in rows:
      self.assertCountEqual(row, names)
    firsts, lasts = ([row[i] for row in rows] for i in (0, -1))
    if count % 2:
      self.assertEqual({firsts.count(name) for name in names}, {2})
      self.assertCountEqual(firsts, lasts)
    if count > 2:
      pairs = {pair for row in rows for pair in zip(row, row[1:], strict=False)}
      self.assertGreater(len(pairs), count)

  def test_interleave_refuses_nothing(self):
    """No contender or no round is an error."""
    with self.assertRaisesRegex(ValueError, "rounds must be at least 1"):
      timing.interleave({}, 2)
    with self.assertRaisesRegex(ValueError, "rounds must be at least 1"):
      timing.interleave({"a": lambda: None}, 0)

  def test_ratio_cancels_what_slows_whole_rounds_down(self):
    """Rounds that are slow for both sides leave the interval narrow."""
    load = np.random.default_rng(1).uniform(1.0, 5.0, 21)
    found = timing.ratio(0.5 * load, load)
    self.assertAlmostEqual(found.estimate, 0.5)
    np.testing.assert_allclose(found.ci95, (0.5, 0.5))
    self.assertEqual((found.n, found.pairing), (21, "paired by round"))

  def test_ratio_of_noise_is_wide(self):
    """Independent noise of a half to double leaves no narrow interval."""
    noise = np.random.default_rng(2).uniform(0.5, 2.0, (2, 11))
    low, high = timing.ratio(*noise).ci95
    self.assertGreater(high - low, 0.1)

  @parameterized.parameters(
    ([], [], "at least one round"),
    ([1.0, 2.0], [1.0], "for the same rounds"),
    ([1.0, np.nan], [1.0, 1.0], "finite"),
  )
  def test_ratio_refuses(self, over, under, message):
    """What has no interval is an error."""
    with self.assertRaisesRegex(ValueError, message):
      timing.ratio(np.array(over), np.array(under))

  def test_a_statistic_of_several_samples(self):
    """Rounds are drawn for all samples together."""
    a = np.arange(1.0, 9.0)
    found = timing.resampled(
      lambda x, y: np.median(x, axis=-1) - np.median(y, axis=-1), a, a
    )
    self.assertIsInstance(found, stats.Interval)
    self.assertEqual((found.estimate, *found.ci95), (0.0, 0.0, 0.0))
