"""Windows on a fixed grid over a text's tokens."""

import numpy as np


class Grid:
  """Windows laid end to end over each stretch of a text; none crosses an end.

  What is left over at the end of a stretch is not used. Windows are numbered in
  the order of the text.
  """

  def __init__(self, tokens: np.ndarray, width: int, ends: np.ndarray):
    """Lays the windows; no token is read yet.

    Args:
      tokens: of the text, or a memory map of them, [n].
      width: tokens a window, at least 1.
      ends: where stretches end, ascending integers [S]; n is the last.
    """
    self._tokens, self._width = tokens, width
    self._starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    counts = (ends - self._starts) // width
    self._before = np.concatenate([[0], np.cumsum(counts)])

  def __len__(self) -> int:
    """The number of windows."""
    return int(self._before[-1])

  def read(self, indices: np.ndarray) -> np.ndarray:
    """Reads windows.

    Args:
      indices: their numbers, integer [K].

    Returns:
      Tokens, int32 [K, width].
    """
    stretch = np.searchsorted(self._before, indices, side="right") - 1
    within = indices - self._before[stretch]
    at = self._starts[stretch] + within * self._width
    if not at.size:
      return np.zeros((0, self._width), np.int32)
    every = np.lib.stride_tricks.sliding_window_view(self._tokens, self._width)
    return every[at].astype(np.int32)


def ends_within(ends: np.ndarray, low: int, high: int) -> np.ndarray:
  """Where the stretches of a part of a text end, counted from its start.

  Args:
    ends: where those of the whole text end, ascending [S].
    low: where the part starts.
    high: where it ends; it ends a stretch there, too.

  Returns:
    Ascending integers, the last of them `high - low`.
  """
  inside = ends[(ends > low) & (ends < high)]
  return np.concatenate([inside, [high]]).astype(np.int64) - low
