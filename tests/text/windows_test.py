"""Windows stay within their stretch of text."""

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
  def test_windows_equal_a_loop(self, lengths, width):
    """Each stretch has as many adjacent windows as fit."""
    ends = np.cumsum(lengths)
    tokens = np.arange(ends[-1], dtype=np.uint16)
    expected = [
      tokens[at : at + width].tolist()
      for end, length in zip(ends, lengths, strict=True)
      for at in range(end - length, end - width + 1, width)
    ]
    grid = windows.Grid(tokens, width, ends)
    self.assertLen(grid, len(expected))
    result = grid.read(np.arange(len(grid)))
    self.assertEqual(result.dtype, np.int32)
    self.assertEqual(result.tolist(), expected)
    self.assertEqual(
      grid.read(np.arange(len(grid))[::-1]).tolist(), expected[::-1]
    )

  def test_parts_of_a_text(self):
    """A part's ends count from its start; its own end is the last."""
    ends = np.array([3, 3, 10, 12])
    for low, high, expected in (
      (0, 12, [3, 3, 10, 12]),
      (0, 5, [3, 3, 5]),
      (5, 12, [5, 7]),
      (3, 10, [7]),
    ):
      result = windows.ends_within(ends, low, high)
      self.assertEqual(result.tolist(), expected)


if __name__ == "__main__":
  absltest.main()
