"""Masks over distances, and the same sets of distances as ranges."""

import numpy as np
from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

import jaxlook
from jaxlook.attention import masks
from jaxlook.attention.spec import parse
from tests.fixtures import base

BY_HAND = (
  {"high": 5, "reach": 2},
  {"low": 1, "reach": 0},
  {"low": 3, "high": 4, "reach": 9},
)


class MasksTest(base.TestCase):
  @given(length=st.integers(1, 12), low=st.integers(0, 13))
  def test_masks_agree_with_a_loop(self, length, low):
    """Entry [i, j] tells whether i - j is in the window and j is visible."""
    spec = parse(f"offset:{low}")
    for i in range(length):
      for j in range(length):
        self.assertEqual(masks.window(spec, length)[i, j], i - j == low)
        self.assertEqual(masks.visible(spec, length)[i, j], j <= i)
        self.assertEqual(masks.distances(length)[i, j], i - j)

  @given(length=st.integers(1, 12), reach=st.integers(0, 13))
  def test_reach_hides_distant_keys(self, length, reach):
    """Under `window:w` a query sees its own key and at most w before it."""
    visible = masks.visible(parse(f"window:{reach}"), length)
    expected = np.minimum(np.arange(length), reach) + 1
    np.testing.assert_array_equal(visible.sum(axis=1), expected)
    self.assertTrue(np.diagonal(visible).all())


class DistanceRangesTest(base.TestCase):
  @parameterized.product(spec=(*base.VARIANTS, *BY_HAND), length=(1, 2, 7, 45))
  def test_ranges_equal_the_masks(self, spec, length):
    """The ranges of seen, window and context distances equal the masks."""
    if isinstance(spec, dict):
      spec = jaxlook.Spec(name="by hand", **spec)
    else:
      spec = jaxlook.parse(spec)
    distance = masks.distances(length)
    seen, window = masks.visible(spec, length), masks.window(spec, length)
    for ranges, expected in (
      (masks.seen_ranges(spec, length), seen),
      (masks.window_ranges(spec, length), seen & window),
      (masks.context_ranges(spec, length), seen & ~window),
    ):
      np.testing.assert_array_equal(masks.in_ranges(distance, ranges), expected)
      ends = [end for ends in ranges for end in ends]
      self.assertEqual(ends, sorted(ends))
      self.assertTrue(all(0 <= end < length for end in ends))

  def test_span(self):
    """The span counts both its smallest and its largest distance."""
    self.assertEqual(masks.span(()), 0)
    self.assertEqual(masks.span(((3, 3),)), 1)
    self.assertEqual(masks.span(((0, 1), (4, 8))), 9)
