"""Verdicts, claims, and claims from values of every seed."""

import dataclasses
import math
from typing import Any

import numpy as np
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlook import stats
from jaxlook.stats import claims
from jaxlook.stats.claims import Statement
from tests.fixtures import base

_QUICK = settings(max_examples=60, deadline=None)


def _interval(lower: float, upper: float) -> stats.Interval:
  return stats.Interval((lower + upper) / 2, (lower, upper), 5, "unpaired")


class VerdictTest(base.TestCase):
  @parameterized.parameters(
    ((0.1, 0.2), 0.0, math.inf, "supported"),
    ((0.0, 0.2), 0.0, math.inf, "supported"),
    ((-0.1, 0.2), 0.0, math.inf, "inconclusive"),
    ((-0.2, -0.1), 0.0, math.inf, "contradicted"),
    ((-0.2, 0.0), 0.0, math.inf, "inconclusive"),
    ((0.2, 0.4), 0.1, 0.5, "supported"),
    ((0.2, 0.6), 0.1, 0.5, "inconclusive"),
    ((0.6, 0.7), 0.1, 0.5, "contradicted"),
    ((0.0, 1.0), 0.1, 0.5, "inconclusive"),
    ((math.nan, math.nan), 0.0, math.inf, "inconclusive"),
    ((0.1, math.inf), 0.0, math.inf, "inconclusive"),
    ((0.0, 0.0), math.nextafter(0.0, 1.0), math.inf, "contradicted"),
  )
  def test_known_cases(self, ci95, low, high, expected):
    self.assertEqual(stats.verdict(ci95, low, high), expected)

  @_QUICK
  @given(*[st.integers(-3, 3).map(float)] * 4)
  def test_trichotomy(self, lower, upper, low, high):
    """On a grid the verdict agrees with a count of the points inside."""
    lower, upper = sorted((lower, upper))
    low, high = sorted((low, high))
    points = np.arange(lower, upper + 0.25, 0.5)
    inside = (low <= points) & (points <= high)
    expected = (
      "supported"
      if inside.all()
      else "inconclusive"
      if inside.any()
      else "contradicted"
    )
    self.assertEqual(stats.verdict((lower, upper), low, high), expected)

  @parameterized.parameters(
    ((0.0, 1.0), 2.0, 1.0, r"range \[2.0, 1.0\] contains no number"),
    ((0.0, 1.0), math.nan, 1.0, "contains no number"),
    ((1.0, 0.0), 0.0, 1.0, r"interval \[1.0, 0.0\] has its ends swapped"),
  )
  def test_bad_ranges_are_refused(self, ci95, low, high, message):
    with self.assertRaisesRegex(ValueError, message):
      stats.verdict(ci95, low, high)


class ClaimTest(base.TestCase):
  def test_verdict_follows_from_the_interval(self):
    """A claim copies the interval's numbers and computes its verdict."""
    found = stats.claim(
      "gap", "The gap is positive.", "a paper", "nats", _interval(1, 3), low=0
    )
    self.assertEqual(
      found.as_json(),
      {
        "id": "gap",
        "statement": "The gap is positive.",
        "source": "a paper",
        "estimate": 2.0,
        "unit": "nats",
        "ci95": [1, 3],
        "n": 5,
        "verdict": "supported",
      },
    )
    below = stats.claim("gap", "", "", "", _interval(1, 3), high=0.5)
    self.assertEqual(below.verdict, "contradicted")
    across = stats.claim("gap", "", "", "", _interval(1, 3), high=2, low=0)
    self.assertEqual(across.verdict, "inconclusive")

  def test_verdict_cannot_be_set(self):
    """Constructor, `replace` and assignment all refuse a verdict."""
    found = stats.claim("gap", "", "", "", _interval(-1, 1), low=0.0)
    arguments: dict[str, Any] = {**found.as_json(), "low": 0.0, "high": 1.0}
    with self.assertRaisesRegex(TypeError, "verdict"):
      stats.Claim(**arguments)
    with self.assertRaises(dataclasses.FrozenInstanceError):
      found.verdict = "supported"  # pyright: ignore
    with self.assertRaisesRegex((ValueError, TypeError), "verdict"):
      dataclasses.replace(found, verdict="supported", low=0.0, high=1.0)

  def test_a_missing_bound_is_refused(self):
    with self.assertRaisesRegex(ValueError, "claim 'gap' has no bound"):
      stats.claim("gap", "", "", "", _interval(0, 1))


class JudgedTest(base.TestCase):
  def test_verdicts_ignore_diverged_seeds(self):
    """A diverged seed is dropped; one seed is too few for a claim."""
    nan = np.nan
    found = claims.judged(
      [
        Statement(
          "a",
          "falls",
          "s",
          "u",
          np.array([-1, nan, -3.0]),
          claims.BELOW_0,
          "paired",
        ),
        Statement(
          "b", "rises", "s", "u", np.array([-2.9, -3.0, -3.1]), claims.ABOVE_0
        ),
        Statement(
          "c", "one seed", "s", "u", np.array([1, nan, nan]), {"low": 0.0}
        ),
      ]
    )
    self.assertEqual([claim.id for claim in found], ["a", "b"])
    self.assertEqual((found[0].estimate, found[0].n), (-2.0, 2))
    self.assertEqual(found[1].verdict, "contradicted")

  def test_changes_use_the_seeds_in_both_arms(self):
    """Differences pair by seed in any order, without diverged seeds."""
    a = {2: 5.0, 0: 1.0, 1: np.nan, 7: 3.0}
    b = {0: 4.0, 1: 2.0, 2: 3.0, 9: 1.0}
    np.testing.assert_array_equal(claims.changes(a, b), [-3.0, 2.0])

  def test_zero_is_neither_above_nor_below(self):
    """BELOW_0 and ABOVE_0 exclude 0."""
    zeros = np.zeros(2)
    found = claims.judged(
      [
        Statement("a", "falls", "s", "u", zeros, claims.BELOW_0),
        Statement("b", "rises", "s", "u", zeros, claims.ABOVE_0),
      ]
    )
    self.assertEqual({claim.verdict for claim in found}, {"contradicted"})


class BySeedTest(base.TestCase):
  def test_diverged_seeds_are_marked(self):
    """Integer values become NaN, too; by default all seeds are kept."""
    values = {"a": np.arange(2), "b": np.ones((2, 3))}
    marked = claims.by_seed(values, [False, True])
    np.testing.assert_array_equal(marked["a"], [np.nan, 1.0])
    self.assertTrue(np.isnan(marked["b"][0]).all())
    np.testing.assert_array_equal(claims.by_seed(values)["b"], values["b"])
