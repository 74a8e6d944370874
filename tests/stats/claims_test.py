"""Claims from values of every seed."""

import numpy as np

from jaxlook.stats import claims
from jaxlook.stats.claims import Statement
from tests.fixtures import base


class JudgedTest(base.TestCase):
  def test_verdicts_come_from_the_seeds_that_are_there(self):
    """A diverged seed is left out; a claim of one seed is none at all."""
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

  def test_changes_are_of_the_seeds_in_both(self):
    """By seed, whatever their order; what diverged in one arm is left out."""
    a = {2: 5.0, 0: 1.0, 1: np.nan, 7: 3.0}
    b = {0: 4.0, 1: 2.0, 2: 3.0, 9: 1.0}
    np.testing.assert_array_equal(claims.changes(a, b), [-3.0, 2.0])

  def test_zero_is_neither_above_nor_below(self):
    """The bounds leave 0 itself out."""
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
    """Whole counts, too, and with no mark all seeds are there."""
    found = {"a": np.arange(2), "b": np.ones((2, 3))}
    marked = claims.by_seed(found, [False, True])
    np.testing.assert_array_equal(marked["a"], [np.nan, 1.0])
    self.assertTrue(np.isnan(marked["b"][0]).all())
    np.testing.assert_array_equal(claims.by_seed(found)["b"], found["b"])
