"""How true skip-trigrams are of a text, by counting.

The lift of `source ... destination -> output` is how much likelier the output
is after the destination once the source has occurred earlier in the window.
Counts of a rare pair say little, so one expected event is added to what was
seen and to what was expected: without evidence the lift is 1.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.stats

from jaxlook.circuits.skip_trigrams import Trigrams

ENOUGH = 5.0
"""Expected events from which on a text tells whether a skip-trigram is true."""


class Counts(NamedTuple):
  """Positions of a text, [R] each, for R skip-trigrams.

  Attributes:
    after: with the destination.
    follows: with the destination, and the output next.
    seen: with the destination, and the source earlier in the window.
    true: with all three.
  """

  after: np.ndarray
  follows: np.ndarray
  seen: np.ndarray
  true: np.ndarray

  @property
  def base(self) -> np.ndarray:
    """P(output | destination), 0 where there is no destination."""
    return self.follows / np.maximum(self.after, 1)

  @property
  def rate(self) -> np.ndarray:
    """P(output | destination, source earlier), 0 where there is no such."""
    return self.true / np.maximum(self.seen, 1)

  @property
  def expected(self) -> np.ndarray:
    """How often all three would come if the source did not matter."""
    return self.seen * self.base

  @property
  def testable(self) -> np.ndarray:
    """Whether the text can tell: `ENOUGH` events are expected, bool [R]."""
    return self.expected >= ENOUGH

  @property
  def lift(self) -> np.ndarray:
    """Events seen over events expected, one added to both."""
    return (self.true + 1.0) / (self.expected + 1.0)

  def pooled(self) -> float:
    """The lift of all entries together, NaN where none is expected."""
    expected = self.expected.sum()
    return float(self.true.sum() / expected) if expected else math.nan

  def some(self, index: np.ndarray) -> "Counts":
    """The counts of some of the skip-trigrams."""
    return Counts(*(column[index] for column in self))


class Bugs(NamedTuple):
  """Entries that factoring forces into a table although they are not true.

  Attributes:
    forced: indices of the entries `source ... A -> Y`, integer [R].
    first: of a true entry `source ... A -> X` for each, integer [R].
    second: of a true entry `source ... B -> Y` for each, integer [R].
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
    windows: tokens, integer [W, T + 1]; the last of each is only predicted.
    source: tokens, integer [R].
    destination: tokens, integer [R].
    output: tokens, integer [R].

  Returns:
    Their counts. A source counts from the position after its first occurrence
    in the window on, so that a destination is not its own source.
  """
  windows = np.asarray(windows, np.int64)
  source, destination, output = (
    np.asarray(x, np.int64) for x in (source, destination, output)
  )
  here, after = windows[:, :-1].ravel(), windows[:, 1:].ravel()
  size = 1 + int(max(windows.max(), destination.max(), output.max()))
  pairs = here * size + after
  order = np.argsort(pairs, kind="stable")
  ordered, asked = pairs[order], destination * size + output
  low = np.searchsorted(ordered, asked, side="left")
  high = np.searchsorted(ordered, asked, side="right")
  seen, true = np.zeros((2, len(source)), np.int64)
  places = np.arange(windows.shape[1] - 1)[None]
  for token in np.unique(source):
    found = windows[:, :-1] == token
    first = np.where(found.any(axis=1), found.argmax(axis=1), found.shape[1])
    earlier = (places > first[:, None]).ravel()
    mine = np.flatnonzero(source == token)
    counts = np.bincount(here[earlier], minlength=size)
    seen[mine] = counts[destination[mine]]
    for index in mine:
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
  """Finds what a head must say because it says other things that are true.

  Args:
    trigrams: from `listed`.
    counts: of the same, from `count_trigrams`.
    entries: destinations and outputs of each source, M.
    enough: times that the destination must have followed the source before it
      counts that the output never did.
    least: times that a true entry must have occurred; its lift is above 1.

  Returns:
    The forced entries that never occurred, strongest effect first, each with
    the strongest true entries of the same head and source that share its
    destination and its output.
  """
  shape = (-1, entries, entries)
  real = ((counts.lift > 1.0) & (counts.true >= least)).reshape(shape)
  false = ((counts.true == 0) & (counts.seen >= enough)).reshape(shape)
  effect = np.where(real, np.reshape(trigrams.effect, shape), -np.inf)
  index = np.arange(real.size).reshape(shape)
  across, down = effect.argmax(axis=2), effect.argmax(axis=1)
  first = np.take_along_axis(index, across[:, :, None], axis=2)
  second = np.take_along_axis(index, down[:, None, :], axis=1)
  found = false & real.any(axis=2, keepdims=True)
  found &= real.any(axis=1, keepdims=True)
  forced = index[found]
  ranked = np.argsort(-np.asarray(trigrams.effect)[forced], kind="stable")
  return Bugs(
    *(
      np.broadcast_to(x, real.shape)[found][ranked]
      for x in (index, first, second)
    )
  )


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
  """Spearman's rank correlation; NaN where one side is all equal.

  Args:
    first: [R].
    second: [R].

  Returns:
    A number in [-1, 1].
  """
  if len(first) < 2 or np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
    return math.nan
  # As Pearson's of the ranks, which ties share.
  ranks = (scipy.stats.rankdata(first), scipy.stats.rankdata(second))
  return float(np.corrcoef(*ranks)[0, 1])


def shuffled_tokens(trigrams: Trigrams, seed: int) -> Trigrams:
  """A random table of the same tokens: every column in an order of its own.

  Args:
    trigrams: a table.
    seed: of the orders.

  Returns:
    As many entries; the head and its parts stay with the source.
  """
  rng = np.random.default_rng(seed)
  return trigrams._replace(
    destination=rng.permutation(trigrams.destination),
    output=rng.permutation(trigrams.output),
  )
