"""Intervals against hand-worked cases, scipy and laws."""

import dataclasses
import itertools
import math

import numpy as np
import scipy.stats
from absl.testing import absltest, parameterized
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxlook import stats
from tests.fixtures import base

# Float64 sums of at most 12 numbers below 1e3: a few rounding steps.
_RTOL = 1e-9
_ATOL = 1e-9

# Multiples of 1/64: sums and shifts are exact, so equal values stay equal.
_NUMBERS = st.integers(-6400, 6400).map(lambda value: value / 64.0)
_SEEDS = st.lists(_NUMBERS, min_size=2, max_size=12)
_PAIRS = st.lists(st.tuples(_NUMBERS, _NUMBERS), min_size=2, max_size=12)
_QUICK = settings(max_examples=60, deadline=None)


def _by_seed(values) -> dict[int, float]:
  return {seed: float(value) for seed, value in enumerate(values)}


class MeanIntervalTest(base.TestCase):
  def test_hand_worked(self):
    """1..5: mean 3, sd sqrt(2.5), t(4) = 2.776445, half-width 1.963243."""
    found = stats.mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    self.assertEqual(found.estimate, 3.0)
    np.testing.assert_allclose(found.ci95, (1.036757, 4.963243), atol=1e-6)
    self.assertEqual((found.n, found.pairing), (5, "unpaired"))

  @_QUICK
  @given(_SEEDS)
  def test_equals_scipy(self, values):
    """The interval is scipy's t interval around the mean."""
    assume(len(set(values)) > 1)
    found = stats.mean_interval(values)
    expected = scipy.stats.t.interval(
      0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values)
    )
    np.testing.assert_allclose(found.ci95, expected, rtol=_RTOL, atol=_ATOL)

  @_QUICK
  @given(_SEEDS, _NUMBERS, st.sampled_from([-3.0, -0.5, 0.25, 7.0]))
  def test_moves_with_the_values(self, values, shift, scale):
    """Shifting and scaling the values shifts and scales the interval."""
    before = stats.mean_interval(values)
    after = stats.mean_interval(np.array(values) * scale + shift)
    expected = np.sort(np.array(before.ci95) * scale + shift)
    np.testing.assert_allclose(after.ci95, expected, rtol=_RTOL, atol=_ATOL)
    np.testing.assert_allclose(
      after.estimate, before.estimate * scale + shift, rtol=_RTOL, atol=_ATOL
    )

  def test_coverage_is_95_percent(self):
    """Over 2000 draws of 5 normal seeds, 95% of the intervals contain 0.

    The share's standard error is 0.5%; the test allows three.
    """
    draws = np.random.default_rng(7).standard_normal((2000, 5))
    ends = np.array([stats.mean_interval(draw).ci95 for draw in draws])
    covered = np.mean((ends[:, 0] <= 0.0) & (0.0 <= ends[:, 1]))
    self.assertBetween(covered, 0.935, 0.965)

  def test_equal_values_collapse(self):
    """Equal values give an interval of width exactly zero."""
    found = stats.mean_interval([0.1] * 3)
    self.assertEqual(found.ci95, (0.1, 0.1))
    self.assertEqual(found.estimate, 0.1)

  @parameterized.parameters(
    ([1.0], "at least 2 seeds, not 1"),
    ([], "at least 2 seeds, not 0"),
    (
      [1.0, math.nan, math.inf],
      "2 of 3 numbers that are not finite; drop",
    ),
    ([[1.0, 2.0]], r"one number per seed, not of shape \(1, 2\)"),
  )
  def test_bad_values_are_refused(self, values, message):
    with self.assertRaisesRegex(ValueError, message):
      stats.mean_interval(values)


class PairedBySeedTest(base.TestCase):
  def test_drops_in_pairs(self):
    """A seed missing or diverged in one arm is dropped from both."""
    a, b = stats.paired_by_seed(
      {3: 30.0, 0: math.nan, 1: 10.0, 2: 20.0, 9: 90.0},
      {0: 0.5, 1: 1.5, 2: math.inf, 3: 3.5, 4: 4.5},
    )
    np.testing.assert_array_equal(a, [10.0, 30.0])
    np.testing.assert_array_equal(b, [1.5, 3.5])
    self.assertEqual(a.dtype, np.float64)

  def test_may_leave_nothing(self):
    """Arms without a common seed give two empty arrays."""
    a, b = stats.paired_by_seed({0: 1.0}, {1: 1.0})
    self.assertEqual((a.shape, b.shape), ((0,), (0,)))


class CompareTest(base.TestCase):
  def test_hand_worked(self):
    """Differences 1..5: t = 3 / sqrt(0.5), d_z = 3 / sqrt(2.5), J(4)."""
    found = stats.compare(
      _by_seed([11, 22, 33, 44, 55]), _by_seed([10, 20, 30, 40, 50])
    )
    self.assertEqual(found.estimate, 3.0)
    self.assertEqual((found.n, found.pairing), (5, "paired by seed"))
    np.testing.assert_allclose(found.ci95, (1.036757, 4.963243), atol=1e-6)
    self.assertAlmostEqual(found.d_z, 3 / math.sqrt(2.5), delta=1e-12)
    # J(4) = Gamma(2) / (sqrt(2) Gamma(3/2)) = sqrt(2 / pi).
    self.assertAlmostEqual(
      found.effect_size, found.d_z * math.sqrt(2 / math.pi), delta=1e-12
    )
    self.assertAlmostEqual(found.p_value, 0.013235, delta=1e-6)

  @_QUICK
  @given(_PAIRS)
  def test_equals_scipy(self, pairs):
    """The t interval and p are those of scipy's paired t test."""
    a, b = np.array(pairs).T
    assume(len(set(a - b)) > 1)
    found = stats.compare(_by_seed(a), _by_seed(b))
    expected = scipy.stats.ttest_rel(a, b)
    np.testing.assert_allclose(found.p_value, expected.pvalue, rtol=1e-7)
    np.testing.assert_allclose(
      found.ci95, expected.confidence_interval(0.95), rtol=_RTOL, atol=_ATOL
    )

  @_QUICK
  @given(_PAIRS)
  def test_is_antisymmetric(self, pairs):
    """Swapping the arms negates all but n and p."""
    a, b = (_by_seed(column) for column in zip(*pairs, strict=True))
    forth, back = stats.compare(a, b), stats.compare(b, a)
    for name in ("ci95", "bootstrap95"):
      lower, upper = getattr(back, name)
      np.testing.assert_allclose(
        getattr(forth, name), (-upper, -lower), rtol=_RTOL, atol=_ATOL
      )
    self.assertEqual(forth.estimate, -back.estimate)
    self.assertEqual(forth.d_z, -back.d_z)
    self.assertEqual(forth.p_value, back.p_value)
    self.assertEqual(forth.n, back.n)

  @_QUICK
  @given(_PAIRS)
  def test_interval_and_p_agree(self, pairs):
    """The t interval excludes zero exactly if p is below 0.05."""
    a, b = (_by_seed(column) for column in zip(*pairs, strict=True))
    found = stats.compare(a, b)
    assume(abs(found.p_value - 0.05) > 1e-9)
    excludes_0 = found.ci95[0] > 0.0 or found.ci95[1] < 0.0
    self.assertEqual(excludes_0, found.p_value < 0.05)

  def test_bootstrap_is_scipys_bca(self):
    """The bootstrap interval is scipy's BCa with the documented seed."""
    differences = np.array([0.1, 0.4, 0.2, 2.0, 0.3, 0.9])
    zeros = _by_seed(np.zeros(6))
    found = stats.compare(_by_seed(differences), zeros)
    expected = scipy.stats.bootstrap(
      (differences,),
      np.mean,
      n_resamples=stats.BOOTSTRAP_RESAMPLES,
      rng=np.random.default_rng(stats.BOOTSTRAP_SEED),
    ).confidence_interval
    self.assertEqual(found.bootstrap95, tuple(expected))
    again = stats.compare(_by_seed(differences), zeros)
    self.assertEqual(found, again)
    other = stats.compare(_by_seed(differences), zeros, rng=1)
    self.assertNotEqual(found.bootstrap95, other.bootstrap95)

  def test_bootstrap_falls_back_to_percentiles(self):
    """If BCa is 0 / 0, the interval is the percentile one, not NaN."""
    differences = {0: 1.0, 1: 1.0, 2: 1.0 + 2.0**-52}
    found = stats.compare(differences, {0: 0.0, 1: 0.0, 2: 0.0})
    self.assertEqual(found.bootstrap95, (1.0, 1.0 + 2.0**-52))

  @parameterized.parameters(
    (0.0, 0.0, 1.0), (0.5, math.inf, 0.0), (-0.5, -math.inf, 0.0)
  )
  def test_no_spread(self, difference, effect, p_value):
    """Equal differences give the limits for sd -> 0, without a warning."""
    found = stats.compare(_by_seed([difference] * 4), _by_seed([0.0] * 4))
    self.assertEqual(found.estimate, difference)
    self.assertEqual(found.ci95, (difference, difference))
    self.assertEqual(found.bootstrap95, (difference, difference))
    self.assertEqual((found.d_z, found.effect_size), (effect, effect))
    self.assertEqual(found.p_value, p_value)

  def test_two_seeds_have_no_corrected_effect(self):
    """At n = 2 the effect size is NaN; all else is defined."""
    found = stats.compare({0: 1.0, 1: 2.0}, {0: 0.0, 1: 0.0})
    self.assertTrue(math.isnan(found.effect_size))
    # t(1) is Cauchy: half-width = tan(0.475 pi) * sd / sqrt(2).
    half = math.tan(0.475 * math.pi) * 0.5
    np.testing.assert_allclose(found.ci95, (1.5 - half, 1.5 + half))
    self.assertEqual(found.n, 2)

  def test_correction_removes_the_bias(self):
    """Over 4000 draws of 5 pairs the mean effect size is the true 0.5.

    d_z is 25% too large; the standard error is 0.01.
    """
    draws = np.random.default_rng(3).normal(0.5, 1.0, (4000, 5))
    d_z = draws.mean(axis=1) / draws.std(axis=1, ddof=1)
    one = stats.compare(_by_seed(draws[0]), _by_seed(np.zeros(5)))
    self.assertAlmostEqual(one.d_z, d_z[0], delta=1e-12)
    self.assertAlmostEqual(
      np.mean(d_z * one.effect_size / one.d_z), 0.5, delta=0.03
    )

  @parameterized.parameters(
    ({0: 1.0}, {0: 2.0}, 1),
    ({0: 1.0, 1: math.nan}, {0: 2.0, 1: 1.0}, 1),
    ({}, {}, 0),
  )
  def test_too_few_pairs_are_refused(self, a, b, left):
    with self.assertRaisesRegex(ValueError, f"at least 2 seeds.*not {left}$"):
      stats.compare(a, b)


class UnpairedTest(base.TestCase):
  def test_hand_worked(self):
    """Means 2 and 7; se 1/3 + (20/3)/4 = 2; Welch's df 4 / (1/18 + 25/27)."""
    found = stats.unpaired([1.0, 2.0, 3.0], [4.0, 6.0, 8.0, 10.0])
    half = scipy.stats.t.ppf(0.975, 4 / (1 / 18 + 25 / 27)) * math.sqrt(2.0)
    self.assertEqual((found.estimate, found.n), (-5.0, 3))
    np.testing.assert_allclose(found.ci95, (-5.0 - half, -5.0 + half))
    self.assertEqual(found.pairing, "unpaired")

  @_QUICK
  @given(_SEEDS, _SEEDS)
  def test_equals_scipy(self, a, b):
    """Welch's test."""
    assume(len(set(a)) > 1 and len(set(b)) > 1)
    test = scipy.stats.ttest_ind(a, b, equal_var=False)
    np.testing.assert_allclose(
      stats.unpaired(a, b).ci95,
      tuple(test.confidence_interval(0.95)),
      rtol=_RTOL,
      atol=_ATOL,
    )

  def test_no_spread(self):
    """The interval has width zero, as those of pairs have."""
    found = stats.unpaired([3.0, 3.0], [1.0, 1.0, 1.0])
    self.assertEqual(found.ci95, (2.0, 2.0))
    low, high = stats.unpaired([3.0, 3.0], [1.0, 2.0]).ci95
    self.assertLess(low, 1.5)
    self.assertGreater(high, 1.5)

  def test_one_seed_is_refused(self):
    """On either side."""
    for a, b in (([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0])):
      with self.assertRaisesRegex(ValueError, "at least 2 seeds"):
        stats.unpaired(a, b)


class HolmTest(base.TestCase):
  def test_hand_worked(self):
    """0.01, 0.04, 0.03, 0.005: times 3, 1, 2, 4, then made monotone."""
    np.testing.assert_allclose(
      stats.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]
    )

  @_QUICK
  @given(st.lists(st.floats(0.0, 1.0), max_size=7))
  def test_equals_closed_testing(self, p_values):
    """Holm is the closure of Bonferroni tests.

    The adjusted p of a hypothesis is the largest Bonferroni p over all groups
    of hypotheses that contain it.
    """
    everyone = range(len(p_values))
    expected = [
      max(
        min(1.0, len(group) * min(p_values[k] for k in group))
        for size in range(1, len(p_values) + 1)
        for group in itertools.combinations(everyone, size)
        if index in group
      )
      for index in everyone
    ]
    np.testing.assert_array_equal(stats.holm(p_values), expected)

  @parameterized.parameters(
    ([0.5, 1.5], r"lie in \[0, 1\], not 1.5"),
    ([-0.1], r"lie in \[0, 1\], not -0.1"),
    ([math.nan, 0.5], r"lie in \[0, 1\], not nan"),
    ([[0.5]], r"one-dimensional, not \(1, 1\)"),
  )
  def test_bad_p_values_are_refused(self, p_values, message):
    with self.assertRaisesRegex(ValueError, message):
      stats.holm(p_values)


class ComparisonTableTest(base.TestCase):
  def test_rows(self):
    """Rows keep order and numbers; p is adjusted over the whole table."""
    rng = np.random.default_rng(0)
    zeros = _by_seed(np.zeros(6))
    comparisons = {
      name: stats.compare(_by_seed(rng.normal(mean, 1.0, 6)), zeros)
      for name, mean in [("weak", 0.2), ("strong", 3.0), ("middle", 1.0)]
    }
    rows = stats.comparison_table(comparisons)
    self.assertEqual([row["name"] for row in rows], list(comparisons))
    p_values = [each.p_value for each in comparisons.values()]
    np.testing.assert_array_equal(
      [row["p_holm"] for row in rows], stats.holm(p_values)
    )
    for row, each in zip(rows, comparisons.values(), strict=True):
      self.assertEqual(
        {key: row[key] for key in row if key not in ("name", "p_holm")},
        dataclasses.asdict(each),
      )

  def test_empty(self):
    """A table without comparisons has no rows."""
    self.assertEqual(stats.comparison_table({}), [])


if __name__ == "__main__":
  absltest.main()
