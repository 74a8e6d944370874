"""Masks over distances."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxlook.attention import masks
from jaxlook.attention.spec import parse
from tests.fixtures import base


class MasksTest(base.TestCase):
  @given(length=st.integers(1, 12), low=st.integers(0, 13))
  def test_masks_agree_with_a_loop(self, length, low):
    """Each entry says whether i - j lies in the window, and is visible."""
    spec = parse(f"offset:{low}")
    for i in range(length):
      for j in range(length):
        self.assertEqual(masks.window(spec, length)[i, j], i - j == low)
        self.assertEqual(masks.visible(spec, length)[i, j], j <= i)
        self.assertEqual(masks.distances(length)[i, j], i - j)

  @given(length=st.integers(1, 12), reach=st.integers(0, 13))
  def test_reach_hides_what_is_further(self, length, reach):
    """`window:w` shows the own key and at most w before it."""
    visible = masks.visible(parse(f"window:{reach}"), length)
    expected = np.minimum(np.arange(length), reach) + 1
    np.testing.assert_array_equal(visible.sum(axis=1), expected)
    self.assertTrue(np.diagonal(visible).all())
