"""Classes of tokens in text: by position, frequency, word, line and repetition.

The classes depend on the text only, never on a model: on the tokens of a
window, their counts in the training text, and their spelling.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

POSITION = "position in the window"
FREQUENCY = "count in training"
WORD = "part of a word"
LINE = "line"
REPEATED = "seen in the window"
DISTANCE = "distance to the last occurrence"

BEGINS, CONTINUES, NO_WORD = "begins a word", "continues a word", "no word"
AFTER_BREAK, WITHIN_LINE = "after a line break", "within a line"
AGAIN, NEW = "repeated", "new"

_FRAGMENT = re.compile("(<[0-9A-F]{2}>)+")


@dataclasses.dataclass(frozen=True, eq=False)
class TokenKind:
  """One way to classify the predicted tokens of W windows.

  Attributes:
    name: of the kind.
    classes: labels of the C classes, in order.
    token_class: the class of each token, integer [W, T].
  """

  name: str
  classes: tuple[str, ...]
  token_class: np.ndarray

  def mask(self, label: str) -> np.ndarray:
    """The tokens in a class, bool [W, T]; none if there is no such class."""
    if label not in self.classes:
      return np.zeros(self.token_class.shape, bool)
    return self.token_class == self.classes.index(label)


def token_kinds(
  windows: np.ndarray,
  counts: np.ndarray,
  shown: Sequence[str],
  bins: int = 5,
) -> dict[str, TokenKind]:
  """Classifies every token of some windows, except the first of each.

  Args:
    windows: token ids below V, integer [W, T + 1].
    counts: how often each token was seen in training, [V].
    shown: the spelling of each token, [V]; from `Tokenizer.show`.
    bins: number of frequency bins, each with about the same share of the
      training text.

  Returns:
    Kinds by name, without classes that have no token.

  Raises:
    ValueError: the numbers of spellings and counts differ, or all counts are 0.
  """
  if len(counts) != len(shown):
    raise ValueError(f"{len(counts)} counts, but {len(shown)} spellings")
  targets = windows[:, 1:]
  positions = np.broadcast_to(np.arange(targets.shape[1]), targets.shape)
  distances = last_distances(windows)
  bin_of, labels = frequency_bins(counts, bins)
  kinds = [
    TokenKind(POSITION, *_octaves(positions)),
    TokenKind(FREQUENCY, labels, bin_of[targets]),
    TokenKind(WORD, (BEGINS, CONTINUES, NO_WORD), _words(windows, shown)),
    TokenKind(LINE, (AFTER_BREAK, WITHIN_LINE), _lines(windows, shown)),
    TokenKind(REPEATED, (AGAIN, NEW), np.where(distances > 0, 0, 1)),
    TokenKind(DISTANCE, *_octaves(distances, {0: NEW})),
  ]
  return {kind.name: _without_empty(kind) for kind in kinds}


def last_distances(windows: np.ndarray) -> np.ndarray:
  """The distance to the last occurrence of the same token in the window.

  Args:
    windows: token ids, integer [W, T + 1].

  Returns:
    For every token except the first, integer [W, T]; 0 for a new token.
  """
  order = np.argsort(windows, axis=1, kind="stable")
  ordered = np.take_along_axis(windows, order, axis=1)
  same = ordered[:, 1:] == ordered[:, :-1]
  found = np.zeros(windows.shape, np.int64)
  steps = np.where(same, np.diff(order, axis=1), 0)
  np.put_along_axis(found, order[:, 1:], steps, axis=1)
  return found[:, 1:]


def frequency_bins(
  counts: np.ndarray, bins: int
) -> tuple[np.ndarray, tuple[str, ...]]:
  """Bins tokens by their counts, with an equal share of the text in each bin.

  If the text is sorted by the counts of its tokens, a token belongs to the bin
  that its middle falls in. Tokens with equal counts share a bin.

  Args:
    counts: how often each token was seen, [V].
    bins: number of bins, at least 1.

  Returns:
    The bin of each token, the rarest first, integer [V]; and the range of
    counts of every bin.

  Raises:
    ValueError: all counts are 0.
  """
  if not np.sum(counts):
    raise ValueError("no token was counted")
  values, inverse, times = np.unique(
    counts, return_inverse=True, return_counts=True
  )
  mass = values.astype(np.float64) * times
  middle = (np.cumsum(mass) - mass / 2) / mass.sum()
  of_value = np.minimum((middle * bins).astype(np.int64), bins - 1)
  labels = []
  for index in range(bins):
    inside = values[of_value == index]
    ends = "".join(map(str, inside))
    if len(inside) > 1:
      ends = f"{inside[0]}..{inside[-1]}"
    labels.append(f"{index + 1}: {ends}")
  return of_value[inverse], tuple(labels)


def _octaves(
  values: np.ndarray, named: dict[int, str] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
  """Classes 0, 1, 2..3, 4..7 and so on."""
  _, exponent = np.frexp(values.astype(np.float64))
  top = int(values.max())
  labels = []
  for place in range(int(exponent.max()) + 1):
    low, high = 2**place // 2, min(max(2**place - 1, 0), top)
    label = str(low) if low == high else f"{low}..{high}"
    labels.append((named or {}).get(place, label))
  return tuple(labels), exponent


def _words(windows: np.ndarray, shown: Sequence[str]) -> np.ndarray:
  """Whether tokens begin a word, continue one, or do neither.

  Words are runs of letters and digits; a space before them begins a word. Parts
  of characters do neither.
  """
  parts = [bool(_FRAGMENT.fullmatch(text)) for text in shown]
  bare = [text.lstrip() for text in shown]
  word = np.array(
    [
      text[:1].isalnum() and not part
      for text, part in zip(bare, parts, strict=True)
    ]
  )
  spaced = np.array(
    [text != full for text, full in zip(bare, shown, strict=True)]
  )
  ends = np.array(
    [
      text[-1:].isalnum() and not part
      for text, part in zip(shown, parts, strict=True)
    ]
  )
  targets, before = windows[:, 1:], windows[:, :-1]
  goes_on = ends[before] & ~spaced[targets]
  return np.where(word[targets], np.where(goes_on, 1, 0), 2)


def _lines(windows: np.ndarray, shown: Sequence[str]) -> np.ndarray:
  """Whether the previous token ends a line."""
  breaks = np.array([text.endswith("\n") for text in shown])
  return np.where(breaks[windows[:, :-1]], 0, 1)


def _without_empty(kind: TokenKind) -> TokenKind:
  """The kind without classes that have no token."""
  present, token_class = np.unique(kind.token_class, return_inverse=True)
  classes = tuple(kind.classes[place] for place in present)
  return TokenKind(
    kind.name, classes, token_class.reshape(kind.token_class.shape)
  )
