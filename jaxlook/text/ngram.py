"""Baselines from counts of n-grams: interpolated Kneser-Ney of any order.

An n-gram is stored as a code: the rank of its first n - 1 tokens among the
grams of that length, times V, plus the last token. Codes are sorted, so memory
grows with the number of n-grams seen, and codes of long grams stay small.
Counting needs 4 bytes more for each token of the text.

Sources: Kneser and Ney (1995), "Improved backing-off for m-gram language
modeling"; interpolated as in Chen and Goodman (1999), "An empirical study of
smoothing techniques for language modeling", equations 23 to 26.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from jaxlook.errors import SettingError, check_ids

_CHUNK = 1 << 22  # Tokens counted at a time; bounds memory on a long text.
_MANY = 1 << 18  # Codes that no longer fit into a processor's cache.
_END = np.iinfo(np.int64).max  # Larger than any code.


@dataclasses.dataclass(frozen=True, eq=False)
class Shares:
  """How n-grams of one length share the probability after their contexts.

  The last entry, index -1, is for what was never seen.

  Attributes:
    kept: the part of the probability of an n-gram's last token that is its
      own, after the discount, float64 [K + 1].
    spare: the probability that a context leaves to the distribution after a
      shorter context, float64 [C + 1].
  """

  kept: np.ndarray
  spare: np.ndarray

  def mixed(
    self, grams: np.ndarray, contexts: np.ndarray, shorter: np.ndarray
  ) -> np.ndarray:
    """Returns the probabilities of the last tokens of n-grams.

    Args:
      grams: their ranks, -1 if never seen, int64 [...].
      contexts: the ranks of their first n - 1 tokens, -1 if never seen.
      shorter: the probabilities of the tokens after a shorter context.
    """
    return self.kept[grams] + self.spare[contexts] * shorter


@dataclasses.dataclass(frozen=True, eq=False)
class Ngrams:
  """A distribution over tokens after every context of less than `order` tokens.

  Attributes:
    codes: for each length n from 1, the codes of the n-grams seen, sorted, and
      a last one that no n-gram has, int64 [K + 1]; for n = 1 all tokens.
    longest: for each n, the shares after the longest context that is read: by
      how often an n-gram was seen.
    shorter: for each n but the last, those after shorter contexts: by how many
      different tokens an n-gram was seen after.
  """

  codes: Sequence[np.ndarray]
  longest: Sequence[Shares]
  shorter: Sequence[Shares]

  @property
  def order(self) -> int:
    """The length of the longest n-grams."""
    return len(self.codes)

  @property
  def vocab_size(self) -> int:
    """Number of token ids."""
    return len(self.codes[0]) - 1

  def nats(self, windows: np.ndarray, order: int | None = None) -> np.ndarray:
    """Scores every token of each window, except the first.

    The context is the `order` - 1 tokens before, or as many as the window has.

    Args:
      windows: token ids below V, integer [..., N + 1].
      order: which order to score with; the highest by default.

    Returns:
      Nats per target, float64 [..., N].

    Raises:
      SettingError: `order` does not lie in 1..`self.order`.
      ValueError: a window has fewer than two tokens, or an id is not below V.
    """
    order = self.order if order is None else order
    if not 1 <= order <= self.order:
      raise SettingError("order", f"must lie in 1..{self.order}, not {order}")
    width = np.shape(windows)[-1]
    if width < 2:
      raise ValueError(f"windows must have at least two tokens, not {width}")
    ids = _ids(windows, self.vocab_size)
    if order == 1:
      return -np.log(self.longest[0].kept[ids[..., 1:]])
    # Entry i of `grams` is the rank of the n-gram that starts at token i, and
    # entry i of `shorter` the probability of its last token.
    grams, shorter, found = ids, self.shorter[0].kept[ids], []
    for n in range(2, min(order, width) + 1):
      contexts, shorter = grams[..., :-1], shorter[..., 1:]
      coded = contexts * self.vocab_size + ids[..., n - 1 :]
      grams = _ranks(self.codes[n - 1], coded)
      found.append(self.longest[n - 1].mixed(grams, contexts, shorter))
      if n < order:
        shorter = self.shorter[n - 1].mixed(grams, contexts, shorter)
    starts = [each[..., :1] for each in found[:-1]]
    return -np.log(np.concatenate([*starts, found[-1]], axis=-1))


def fit_ngrams(
  tokens: np.ndarray,
  vocab_size: int,
  order: int,
  add: float = 0.1,
  ends: np.ndarray | None = None,
) -> Ngrams:
  """Fits interpolated Kneser-Ney models of every order up to one.

  A discount d is subtracted from the count of every n-gram seen. This leaves
  probability to the distribution after a context that is one token shorter.
  There, an n-gram counts as often as it was seen after different tokens. After
  a context that was never seen, that distribution is used alone. d = n1 / (n1
  + 2 n2) for n1 n-grams counted once and n2 counted twice, or 1/2 if none was
  counted once. Unlike in the papers, `add` gives unseen tokens a probability.

  Args:
    tokens: token ids below V, integer [n].
    vocab_size: V.
    order: the highest, at least 1. Order 1 is token frequencies with `add`
      added to each count (Lidstone smoothing; 1 is Laplace smoothing).
    add: added to each token's count in the distribution that reads no context;
      positive.
    ends: ends of documents, ascending integers [S]; n-grams across them are not
      counted. None for one document.

  Returns:
    The models.

  Raises:
    SettingError: `order` is below 1.
    ValueError: `add` is not positive, there are fewer than two tokens, no token
      follows another in a document and `order` is above 1, or an id is not
      below V.
  """
  if order < 1:
    raise SettingError("order", f"must be at least 1, not {order}")
  if not add > 0.0:
    raise ValueError(f"add must be positive, not {add}")
  if len(tokens) < 2:
    raise ValueError(f"tokens must have at least two ids, not {len(tokens)}")
  codes, counts = _count_all(tokens, vocab_size, order, ends)
  longest, shorter = [_frequencies(counts[0], add)], []
  # By rank, the rank of an n-gram without its last and without its first token.
  heads = tails = np.zeros(vocab_size, np.int64)
  for n in range(2, order + 1):
    number = len(counts[n - 2])
    contexts, last = np.divmod(codes[n - 1][:-1], vocab_size)
    tails = _ranks(codes[n - 2], tails[contexts] * vocab_size + last)
    after = np.bincount(tails, minlength=number)
    shorter.append(
      _shares(after, heads, len(counts[n - 3]))
      if n > 2
      else _frequencies(after, add)
    )
    longest.append(_shares(counts[n - 1], contexts, number))
    heads = contexts
  return Ngrams(codes, longest, shorter)


def token_counts(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
  """Counts tokens, in chunks.

  Args:
    tokens: token ids below V, integer [n].
    vocab_size: V.

  Returns:
    The count of each token id, int64 [V].

  Raises:
    ValueError: an id is not below V.
  """
  counts = np.zeros(vocab_size, np.int64)
  for start in range(0, len(tokens), _CHUNK):
    part = _ids(tokens[start : start + _CHUNK], vocab_size)
    counts += np.bincount(part, minlength=vocab_size)
  return counts


def _count_all(
  tokens: np.ndarray, vocab_size: int, order: int, ends: np.ndarray | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
  """Counts the n-grams of every length up to `order`; see `fit_ngrams`.

  Returns:
    For each length, `Ngrams.codes` and the counts, int64 [K].
  """
  codes = [np.append(np.arange(vocab_size), _END)]
  counts = [token_counts(tokens, vocab_size)]
  # By token, the rank of the n-gram that starts there, -1 if that crosses an
  # end. 2^31 different n-grams would not fit into memory.
  places = np.array(tokens, np.int32)
  ends = np.append([] if ends is None else ends, len(tokens)).astype(np.int64)
  for n in range(2, order + 1):
    places[ends[ends >= n - 1] - (n - 1)] = -1
    coded = (each for _, each in _coded(places, tokens, n, vocab_size))
    seen, times = _count(coded)
    if n == 2 and not len(seen):
      raise ValueError("tokens must have two ids in a document")
    codes.append(np.append(seen, _END))
    counts.append(times)
    if n < order:
      for here, each in _coded(places, tokens, n, vocab_size):
        places[here] = _ranks(codes[-1], each)
  return codes, counts


def _frequencies(counts: np.ndarray, add: float) -> Shares:
  """The shares of tokens without a context."""
  raised = counts + add
  return Shares(kept=raised / raised.sum(), spare=np.zeros(1))


def _shares(counts: np.ndarray, contexts: np.ndarray, number: int) -> Shares:
  """The shares of n-grams by their counts, after a discount.

  Args:
    counts: of each n-gram, 0 or above, int64 [K].
    contexts: the rank of its first n - 1 tokens, int64 [K].
    number: the number of contexts, C.
  """
  once, twice = np.sum(counts == 1), np.sum(counts == 2)
  discount = once / (once + 2 * twice) if once else 0.5
  totals = np.bincount(contexts, weights=counts, minlength=number)
  followers = np.bincount(contexts, weights=counts > 0, minlength=number)
  # A context without followers leaves everything.
  spare = np.where(
    totals > 0, discount * followers / np.maximum(totals, 1), 1.0
  )
  kept = np.where(counts > 0, counts - discount, 0.0)
  kept = kept / np.maximum(totals, 1)[contexts]
  return Shares(np.append(kept, 0.0), np.append(spare, 1.0))


def _coded(
  places: np.ndarray, tokens: np.ndarray, n: int, vocab_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields where n-grams start and their codes, int64 [k] each, in chunks.

  Args:
    places: by the token where they start, the ranks of the n-grams without
      their last token, -1 where no n-gram starts, [T].
    tokens: token ids below V, integer [T].
    n: their length.
    vocab_size: V.
  """
  for start in range(0, len(places), _CHUNK):
    here = np.flatnonzero(places[start : start + _CHUNK] >= 0) + start
    last = tokens[here + n - 1].astype(np.int64)
    yield here, places[here].astype(np.int64) * vocab_size + last


def _count(
  chunks: Iterable[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
  """Counts codes: those seen, sorted int64 [K], and their counts, int64 [K]."""
  none = np.zeros(0, np.int64)
  codes, counts, waiting = none, none, []
  for chunk in chunks:
    waiting.append(np.unique(chunk, return_counts=True))
    # Rarely, so that the time is not quadratic in the length of the text.
    if sum(len(seen) for seen, _ in waiting) > len(codes):
      codes, counts = _merged([(codes, counts), *waiting])
      waiting = []
  return _merged([(codes, counts), *waiting])


def _merged(
  parts: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
  """Adds up counts of the same codes."""
  parts = [part for part in parts if len(part[0])] or parts[:1]
  if len(parts) == 1:
    return parts[0]
  codes, places = np.unique(
    np.concatenate([seen for seen, _ in parts]), return_inverse=True
  )
  counts = np.concatenate([times for _, times in parts])
  return codes, np.bincount(places, weights=counts).astype(np.int64)


def _ranks(codes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
  """The places of codes among sorted ones, -1 for those that are not there."""
  if min(codes.size, wanted.size) > _MANY:
    # In order: each search then touches memory that the last one has touched.
    order = np.argsort(wanted, axis=None)
    places = np.empty(wanted.size, np.int64)
    places[order] = np.searchsorted(codes, wanted.ravel()[order])
    places = places.reshape(wanted.shape)
  else:
    places = np.searchsorted(codes, wanted)
  return np.where(codes[places] == wanted, places, -1)


def _ids(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
  check_ids(vocab_size, tokens)
  return np.asarray(tokens, np.int64)
