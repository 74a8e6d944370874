"""Donors are what their kind says, checked one couplet at a time."""

import jax
import numpy as np
from absl.testing import absltest

from jaxlook.planning.couplets import swaps
from jaxlook.tasks.couplets import Truth
from tests.fixtures import base

_SIZE = 512


def _truth(rhymes, key):
  rest = np.zeros_like(key)
  return Truth(rhymes, key, rest, rest, rest)


class PairsTest(base.TestCase):
  def test_donors(self):
    draw = np.random.default_rng(0)
    rhymes = draw.random(_SIZE) < 0.4
    key = draw.integers(16, size=_SIZE)
    found = jax.jit(swaps.donors)(_truth(rhymes, key))
    donor, valid, target = map(np.asarray, found)
    self.assertTrue(valid.all())
    np.testing.assert_array_equal(target, key[donor[0]])

    def following(after, fits):
      places = [(after + step) % _SIZE for step in range(1, _SIZE + 1)]
      return next(place for place in places if fits[place])

    for i in range(_SIZE):
      for kind in range(3):
        self.assertEqual(rhymes[donor[kind, i]], rhymes[i])
        self.assertNotEqual(donor[kind, i], i)
      self.assertNotEqual(key[donor[0, i]], key[i])
      self.assertEqual(key[donor[1, i]], key[i])
      alike = rhymes == rhymes[i]
      other = following(i, alike & (key != key[i]))
      self.assertEqual(donor[0, i], other)
      shuffled = following(other, alike & (np.arange(_SIZE) != i))
      self.assertEqual(donor[2, i], shuffled)
    # A shuffled donor has the class that is meant as often as any other.
    hits = np.mean(key[donor[2]] == target)
    self.assertLess(abs(hits - 1 / 16), 0.04)
    self.assertGreater(hits, 0.0)

  def test_without_donors(self):
    """Couplets that have no donor say so."""
    rhymes = np.array([True, True, True, False, False, False])
    key = np.array([1, 1, 2, 5, 5, 5])
    valid = np.asarray(jax.jit(swaps.donors)(_truth(rhymes, key)).valid)
    np.testing.assert_array_equal(
      valid,
      [
        [True, True, True, False, False, False],
        [True, True, False, False, False, False],
        [True, True, True, False, False, False],
      ],
    )


if __name__ == "__main__":
  absltest.main()
