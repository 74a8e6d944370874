"""Windows on a fixed grid over a text's tokens."""

import numpy as np


class Grid:
  """Adjacent windows over each stretch of a text, such as a document.

  No window crosses the end of a stretch; tokens that do not fill a window are
  not used. Windows are numbered in the order of the text.
  """

  def __init__(self, tokens: np.ndarray, width: int, ends: np.ndarray):
    """Places the windows; no token is read yet.

    Args:
      tokens: tokens of the text, [n], or a memory map of them.
      width: tokens per window, at least 1.
      ends: ends of the stretches, ascending integers [S]; the last is n.
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
      indices: numbers of the windows, integer [K].

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


def stretch_numbers(ends: np.ndarray, low: int, high: int) -> np.ndarray:
  """Numbers the tokens of a part of a text by the stretch they lie in.

  Args:
    ends: ends of the stretches of the text, ascending [S].
    low: start of the part.
    high: end of the part.

  Returns:
    Int64 [high - low].
  """
  return np.searchsorted(ends, np.arange(low, high), side="right")


def ends_within(ends: np.ndarray, low: int, high: int) -> np.ndarray:
  """Returns the ends of stretches within a part of a text, from its start.

  Args:
    ends: ends of the stretches of the whole text, ascending [S].
    low: start of the part.
    high: end of the part, which also ends a stretch.

  Returns:
    Ascending integers; the last is `high - low`.
  """
  inside = ends[(ends > low) & (ends < high)]
  return np.concatenate([inside, [high]]).astype(np.int64) - low
