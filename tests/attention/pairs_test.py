"""Sets of distances against the masks of the definition."""

import numpy as np
from absl.testing import parameterized

import jaxlook
from jaxlook.attention import masks
from tests.fixtures import base

BY_HAND = (
  {"high": 5, "reach": 2},
  {"low": 1, "reach": 0},
  {"low": 3, "high": 4, "reach": 9},
)


class PairsTest(base.TestCase):
  @parameterized.product(spec=(*base.VARIANTS, *BY_HAND), length=(1, 2, 7, 45))
  def test_sets_are_the_masks(self, spec, length):
    """What is seen, and what of it lies inside and outside the window."""
    if isinstance(spec, dict):
      spec = jaxlook.Spec(name="by hand", **spec)
    else:
      spec = jaxlook.parse(spec)
    distance = masks.distances(length)
    seen, window = masks.visible(spec, length), masks.window(spec, length)
    for found, expected in (
      (masks.seen(spec, length), seen),
      (masks.inside(spec, length), seen & window),
      (masks.outside(spec, length), seen & ~window),
    ):
      np.testing.assert_array_equal(masks.chosen(distance, found), expected)
      ends = [end for ends in found for end in ends]
      self.assertEqual(ends, sorted(ends))
      self.assertTrue(all(0 <= end < length for end in ends))

  def test_width(self):
    """From the smallest distance to the largest, both counted."""
    self.assertEqual(masks.width(()), 0)
    self.assertEqual(masks.width(((3, 3),)), 1)
    self.assertEqual(masks.width(((0, 1), (4, 8))), 9)
