"""Windows on a fixed grid over a text's tokens, and who reads which of them."""

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


def host_rows(batch_size: int, host: int, hosts: int) -> range:
  """The rows of every batch that one of several hosts reads.

  Args:
    batch_size: rows a batch.
    host: which host, from 0.
    hosts: how many there are; divides `batch_size`.

  Returns:
    Consecutive rows; those of all hosts, joined, are the batch.

  Raises:
    ValueError: a number is out of range, or the rows cannot be shared evenly.
  """
  if not 0 <= host < hosts:
    raise ValueError(f"host must lie in 0..{hosts - 1}, not {host}")
  if batch_size % hosts:
    raise ValueError(
      f"hosts must divide the batch of {batch_size} rows, not be {hosts}"
    )
  each = batch_size // hosts
  return range(host * each, (host + 1) * each)
