"""Counts how well skip-trigrams fit a text.

The lift of `source ... destination -> output` is
P(output | destination, source earlier in the window) over
P(output | destination). Counts of rare pairs are noisy, so 1 is added to the
observed and to the expected number of events. Without evidence the lift is 1.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.stats

from jaxlook.circuits.skip_trigrams import Trigrams

ENOUGH = 5.0
"""Least number of expected events with which a skip-trigram can be tested."""


class Counts(NamedTuple):
  """Numbers of positions in a text, [R] each, for R skip-trigrams.

  Attributes:
    after: positions with the destination.
    follows: positions with the destination, and the output next.
    seen: positions with the destination, and the source earlier in the window.
    true: positions with all three.
  """

  after: np.ndarray
  follows: np.ndarray
  seen: np.ndarray
  true: np.ndarray

  @property
  def base(self) -> np.ndarray:
    """P(output | destination); 0 if the destination never occurs."""
    return self.follows / np.maximum(self.after, 1)

  @property
  def rate(self) -> np.ndarray:
    """P(output | destination, source earlier); 0 if that never occurs."""
    return self.true / np.maximum(self.seen, 1)

  @property
  def expected(self) -> np.ndarray:
    """How often all three would occur if the source did not matter."""
    return self.seen * self.base

  @property
  def testable(self) -> np.ndarray:
    """Whether at least `ENOUGH` events are expected, bool [R]."""
    return self.expected >= ENOUGH

  @property
  def lift(self) -> np.ndarray:
    """Observed over expected events, with 1 added to both, [R]."""
    return (self.true + 1.0) / (self.expected + 1.0)

  def pooled(self) -> float:
    """The lift of all entries together; NaN if no event is expected."""
    expected = self.expected.sum()
    return float(self.true.sum() / expected) if expected else math.nan

  def some(self, index: np.ndarray) -> "Counts":
    """The counts of some of the skip-trigrams."""
    return Counts(*(column[index] for column in self))


class Bugs(NamedTuple):
  """False entries that two true entries force into a table.

  Attributes:
    forced: indices of the false entries `source ... A -> Y`, integer [R].
    first: index of a true entry `source ... A -> X` for each, integer [R].
    second: index of a true entry `source ... B -> Y` for each, integer [R].
  """

  forced: np.ndarray
  first: np.ndarray
  second: np.ndarray


def count_trigrams(
  windows: np.ndarray,
  source: np.ndarray,
  destination: np.ndarray,
  output: np.ndarray,
) -> Counts:
  """Counts skip-trigrams in windows of a text.

  Args:
    windows: tokens, integer [W, T + 1]; the last of each window is an output
      only.
    source: tokens, integer [R].
    destination: tokens, integer [R].
    output: tokens, integer [R].

  Returns:
    The counts. A source counts as earlier from the position after its first
    occurrence in the window, so a destination is never its own source.
  """
  windows = np.asarray(windows, np.int64)
  source, destination, output = (
    np.asarray(x, np.int64) for x in (source, destination, output)
  )
  here, after = windows[:, :-1].ravel(), windows[:, 1:].ravel()
  size = 1 + int(max(windows.max(), destination.max(), output.max()))
  pairs = here * size + after
  order = np.argsort(pairs, kind="stable")
  ordered, wanted = pairs[order], destination * size + output
  low = np.searchsorted(ordered, wanted, side="left")
  high = np.searchsorted(ordered, wanted, side="right")
  seen, true = np.zeros((2, len(source)), np.int64)
  places = np.arange(windows.shape[1] - 1)[None]
  for token in np.unique(source):
    is_token = windows[:, :-1] == token
    first = np.where(
      is_token.any(axis=1), is_token.argmax(axis=1), is_token.shape[1]
    )
    earlier = (places > first[:, None]).ravel()
    with_token = np.flatnonzero(source == token)
    counts = np.bincount(here[earlier], minlength=size)
    seen[with_token] = counts[destination[with_token]]
    for index in with_token:
      true[index] = earlier[order[low[index] : high[index]]].sum()
  return Counts(
    after=np.bincount(here, minlength=size)[destination],
    follows=high - low,
    seen=seen,
    true=true,
  )


def find_bugs(
  trigrams: Trigrams,
  counts: Counts,
  entries: int,
  *,
  enough: int = 100,
  least: int = 5,
) -> Bugs:
  """Finds false entries that true entries of the same head force.

  An entry is true if it occurs at least `least` times with a lift above 1. It
  is false if it never occurs although it could at least `enough` times.

  Args:
    trigrams: from `skip_trigrams.top_trigrams`.
    counts: the counts of `trigrams`, from `count_trigrams`.
    entries: destinations and outputs of each source, M.
    enough: how often a false entry's destination must follow its source.
    least: how often a true entry must occur.

  Returns:
    The false entries, strongest effect first. Each comes with two true entries
    of the same head and source: the strongest with its destination, and the
    strongest with its output.
  """
  shape = (-1, entries, entries)
  real = ((counts.lift > 1.0) & (counts.true >= least)).reshape(shape)
  false = ((counts.true == 0) & (counts.seen >= enough)).reshape(shape)
  effect = np.where(real, np.reshape(trigrams.effect, shape), -np.inf)
  index = np.arange(real.size).reshape(shape)
  across, down = effect.argmax(axis=2), effect.argmax(axis=1)
  first = np.take_along_axis(index, across[:, :, None], axis=2)
  second = np.take_along_axis(index, down[:, None, :], axis=1)
  is_forced = false & real.any(axis=2, keepdims=True)
  is_forced &= real.any(axis=1, keepdims=True)
  forced = index[is_forced]
  ranked = np.argsort(-np.asarray(trigrams.effect)[forced], kind="stable")
  return Bugs(
    *(
      np.broadcast_to(x, real.shape)[is_forced][ranked]
      for x in (index, first, second)
    )
  )


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
  """Spearman's rank correlation; NaN if one side is constant.

  Args:
    first: [R].
    second: [R].

  Returns:
    A number in [-1, 1].
  """
  if len(first) < 2 or np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
    return math.nan
  # It is Pearson's correlation of ranks; ties share their mean rank.
  ranks = (scipy.stats.rankdata(first), scipy.stats.rankdata(second))
  return float(np.corrcoef(*ranks)[0, 1])


def shuffled_tokens(trigrams: Trigrams, seed: int) -> Trigrams:
  """Combines the tokens of a table at random.

  Args:
    trigrams: a table.
    seed: of the random order.

  Returns:
    A table of the same size with shuffled destinations and outputs. Head,
    source and parts stay in their rows.
  """
  rng = np.random.default_rng(seed)
  return trigrams._replace(
    destination=rng.permutation(trigrams.destination),
    output=rng.permutation(trigrams.output),
  )
