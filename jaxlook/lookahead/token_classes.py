"""Kinds of token in text: by place, frequency, word, line and recurrence.

Every kind is decided by the text alone, never by a model: by a window's tokens,
how often each was seen in training, and how a tokenizer spells them.
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
  """One way to class the predicted tokens of W windows.

  Attributes:
    name: of the kind.
    classes: labels, C, in order.
    of: each token's class, integer [W, T].
  """

  name: str
  classes: tuple[str, ...]
  of: np.ndarray

  def mask(self, label: str) -> np.ndarray:
    """The tokens of a class, bool [W, T]; none if there is no such class."""
    if label not in self.classes:
      return np.zeros(self.of.shape, bool)
    return self.of == self.classes.index(label)


def token_kinds(
  windows: np.ndarray,
  counts: np.ndarray,
  shown: Sequence[str],
  bins: int = 5,
) -> dict[str, TokenKind]:
  """Classes every token of some windows but the first of each.

  Args:
    windows: token ids below V, integer [W, T + 1].
    counts: how often each token was seen in training, [V].
    shown: how each token is spelled, [V]; from `Tokenizer.show`.
    bins: of frequency, each of about the same share of the training text.

  Returns:
    Kinds by their names; classes without any token are left out.

  Raises:
    ValueError: there are not as many spellings as counts, or no token was
      counted.
  """
  if len(counts) != len(shown):
    raise ValueError(f"{len(counts)} counts, but {len(shown)} spellings")
  targets = windows[:, 1:]
  places = np.broadcast_to(np.arange(targets.shape[1]), targets.shape)
  distances = last_distances(windows)
  of_token, labels = frequency_bins(counts, bins)
  found = [
    TokenKind(POSITION, *_octaves(places)),
    TokenKind(FREQUENCY, labels, of_token[targets]),
    TokenKind(WORD, (BEGINS, CONTINUES, NO_WORD), _words(windows, shown)),
    TokenKind(LINE, (AFTER_BREAK, WITHIN_LINE), _lines(windows, shown)),
    TokenKind(REPEATED, (AGAIN, NEW), np.where(distances > 0, 0, 1)),
    TokenKind(DISTANCE, *_octaves(distances, {0: NEW})),
  ]
  return {each.name: _used(each) for each in found}


def last_distances(windows: np.ndarray) -> np.ndarray:
  """How far back the same token stands, in each window.

  Args:
    windows: token ids, integer [W, T + 1].

  Returns:
    Of every token but the first, integer [W, T]; 0 where it is new.
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
  """Bins tokens by their counts, so that each has its share of the text.

  A token lies in the bin of its middle when the text is sorted by the counts
  of its tokens; tokens of equal counts lie together.

  Args:
    counts: how often each token was seen, [V].
    bins: how many, at least 1.

  Returns:
    The bin of each token, the rarest first, integer [V]; and the range of
    counts of every bin.

  Raises:
    ValueError: no token was counted.
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
  for place in range(bins):
    mine = values[of_value == place]
    ends = (
      f"{mine[0]}..{mine[-1]}" if len(mine) > 1 else "".join(map(str, mine))
    )
    labels.append(f"{place + 1}: {ends}")
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
  """Whether tokens begin a word, continue one, or neither.

  Letters and digits make words; a space before them begins one. Parts of
  characters count as neither.
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
  """Whether the token before ends a line."""
  breaks = np.array([text.endswith("\n") for text in shown])
  return np.where(breaks[windows[:, :-1]], 0, 1)


def _used(kind: TokenKind) -> TokenKind:
  """The kind without the classes that no token is in."""
  present, of = np.unique(kind.of, return_inverse=True)
  classes = tuple(kind.classes[place] for place in present)
  return TokenKind(kind.name, classes, of.reshape(kind.of.shape))
