"""Unigram and bigram baselines from counts.

Pairs of tokens are stored as sorted codes `previous V + next`, so memory grows
with the number of pairs seen, not with V squared.
"""

import dataclasses

import numpy as np

from jaxlook.errors import check_ids
from jaxlook.text.windows import stretch_numbers

_CHUNK = 1 << 22  # Tokens counted at a time; bounds memory on a long text.


@dataclasses.dataclass(frozen=True, eq=False)
class Unigram:
  """One distribution over tokens for every context.

  Attributes:
    log_probs: natural logarithms of the probabilities, float64 [V].
  """

  log_probs: np.ndarray

  def nats(self, windows: np.ndarray) -> np.ndarray:
    """Scores every token of each window, except the first.

    Args:
      windows: token ids below V, integer [..., N + 1].

    Returns:
      Nats per target, float64 [..., N].

    Raises:
      ValueError: a window has fewer than two tokens, or an id is not below V.
    """
    _, targets = _split(windows, len(self.log_probs))
    return -self.log_probs[targets]


@dataclasses.dataclass(frozen=True, eq=False)
class Bigram:
  """A distribution over tokens for every previous token.

  p(w | v) = kept[v, w] + spare[v] lower[w]

  Attributes:
    codes: the pairs seen, v V + w, sorted int64 [K].
    kept: a pair's relative frequency after the discount, float64 [K].
    spare: probability that goes to `lower`, float64 [V].
    lower: a distribution that does not depend on v, float64 [V].
  """

  codes: np.ndarray
  kept: np.ndarray
  spare: np.ndarray
  lower: np.ndarray

  def nats(self, windows: np.ndarray) -> np.ndarray:
    """Scores every token of each window, except the first, given the previous.

    Args:
      windows: token ids below V, integer [..., N + 1].

    Returns:
      Nats per target, float64 [..., N].

    Raises:
      ValueError: a window has fewer than two tokens, or an id is not below V.
    """
    vocab_size = len(self.lower)
    previous, targets = _split(windows, vocab_size)
    codes = previous * vocab_size + targets
    at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
    kept = np.where(self.codes[at] == codes, self.kept[at], 0.0)
    return -np.log(kept + self.spare[previous] * self.lower[targets])


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


def fit_unigram(
  tokens: np.ndarray, vocab_size: int, add: float = 1.0
) -> Unigram:
  """Fits token frequencies with `add` added to each count (Lidstone smoothing).

  Args:
    tokens: token ids below V, integer [n].
    vocab_size: V.
    add: added to each token's count, positive; 1 is Laplace smoothing.

  Returns:
    The distribution.

  Raises:
    ValueError: `add` is not positive, there are fewer than two tokens, or an id
      is not below V.
  """
  _check(tokens, add)
  counts = token_counts(tokens, vocab_size)
  return Unigram(np.log((counts + add) / (counts.sum() + add * vocab_size)))


def fit_bigram(
  tokens: np.ndarray,
  vocab_size: int,
  add: float = 0.1,
  ends: np.ndarray | None = None,
) -> Bigram:
  """Fits an interpolated Kneser-Ney bigram model.

  A discount d is subtracted from the count of every pair seen. The lower
  distribution spreads this mass over all tokens, by the number of contexts in
  which a token was seen. d = n1 / (n1 + 2 n2) for n1 pairs seen once and n2
  pairs seen twice, or 1/2 if no pair was seen once.

  Source: Kneser and Ney (1995), "Improved backing-off for m-gram language
  modeling"; interpolated as in Chen and Goodman (1999), "An empirical study of
  smoothing techniques for language modeling", equations 23 to 26. Unlike them,
  `add` gives unseen tokens a probability.

  Args:
    tokens: token ids below V, integer [n].
    vocab_size: V.
    add: added to each token's number of contexts in the lower distribution;
      positive.
    ends: ends of documents, ascending integers [S]; pairs across them are not
      counted. None for one document.

  Returns:
    The model.

  Raises:
    ValueError: `add` is not positive, no token follows another in a document,
      or an id is not below V.
  """
  _check(tokens, add)
  codes, counts = _pair_counts(tokens, vocab_size, ends)
  if not len(codes):
    raise ValueError("tokens must have two ids in a document")
  previous, following = np.divmod(codes, vocab_size)
  contexts = np.bincount(following, minlength=vocab_size) + add
  once, twice = np.sum(counts == 1), np.sum(counts == 2)
  discount = once / (once + 2 * twice) if once else 0.5
  totals = np.bincount(previous, weights=counts, minlength=vocab_size)
  followers = np.bincount(previous, minlength=vocab_size)
  # A token that was never followed by another gives all mass to `lower`.
  spare = np.where(
    totals > 0, discount * followers / np.maximum(totals, 1), 1.0
  )
  return Bigram(
    codes=codes,
    kept=(counts - discount) / totals[previous],
    spare=spare,
    lower=contexts / contexts.sum(),
  )


def _check(tokens: np.ndarray, add: float) -> None:
  if not add > 0.0:
    raise ValueError(f"add must be positive, not {add}")
  if len(tokens) < 2:
    raise ValueError(f"tokens must have at least two ids, not {len(tokens)}")


def _pair_counts(
  tokens: np.ndarray, vocab_size: int, ends: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
  """Counts neighbouring pairs: sorted codes, int64 [K], counts, int64 [K]."""
  codes, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
  for start in range(0, len(tokens) - 1, _CHUNK):
    previous, following = _split(tokens[start : start + _CHUNK + 1], vocab_size)
    pairs = previous * vocab_size + following
    if ends is not None:
      numbers = stretch_numbers(ends, start, start + len(pairs) + 1)
      pairs = pairs[numbers[1:] == numbers[:-1]]
    seen, times = np.unique(pairs, return_counts=True)
    codes, places = np.unique(
      np.concatenate([codes, seen]), return_inverse=True
    )
    times = np.concatenate([counts, times])
    counts = np.bincount(places, weights=times).astype(np.int64)
  return codes, counts


def _split(
  windows: np.ndarray, vocab_size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns all tokens except the last, and all except the first."""
  if np.shape(windows)[-1] < 2:
    raise ValueError(
      f"windows must have at least two tokens, not {np.shape(windows)[-1]}"
    )
  ids = _ids(windows, vocab_size)
  return ids[..., :-1], ids[..., 1:]


def _ids(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
  check_ids(vocab_size, tokens)
  return np.asarray(tokens, np.int64)
