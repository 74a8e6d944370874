"""Windows stay within their stretch of text, and hosts share them."""

import hypothesis
import numpy as np
from absl.testing import absltest
from hypothesis import strategies as st

from jaxlook.text import windows
from tests.fixtures import base


class GridTest(base.TestCase):
  @hypothesis.given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 9)
  )
  @hypothesis.settings(max_examples=100, deadline=None)
  def test_windows_are_those_of_a_loop(self, lengths, width):
    """Stretch by stretch, as many as fit, one after the other."""
    ends = np.cumsum(lengths)
    tokens = np.arange(ends[-1], dtype=np.uint16)
    wanted = [
      tokens[at : at + width].tolist()
      for end, length in zip(ends, lengths, strict=True)
      for at in range(end - length, end - width + 1, width)
    ]
    grid = windows.Grid(tokens, width, ends)
    self.assertLen(grid, len(wanted))
    found = grid.read(np.arange(len(grid)))
    self.assertEqual(found.dtype, np.int32)
    self.assertEqual(found.tolist(), wanted)
    self.assertEqual(
      grid.read(np.arange(len(grid))[::-1]).tolist(), wanted[::-1]
    )

  def test_parts_of_a_text(self):
    """A part's ends count from its start; where it is cut is an end."""
    ends = np.array([3, 3, 10, 12])
    for low, high, wanted in (
      (0, 12, [3, 3, 10, 12]),
      (0, 5, [3, 3, 5]),
      (5, 12, [5, 7]),
      (3, 10, [7]),
    ):
      found = windows.ends_within(ends, low, high)
      self.assertEqual(found.tolist(), wanted)


if __name__ == "__main__":
  absltest.main()
