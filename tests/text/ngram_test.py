"""Counts of n-grams against loops and entropies."""

import collections
import functools
import itertools
from unittest import mock

import hypothesis
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from jaxlook.text import ngram
from tests.fixtures import base

_V = 5
_TOKENS = st.lists(st.integers(0, _V - 1), min_size=2, max_size=60).map(
  np.array
)
_ADD = st.floats(0.01, 2.0)


def _all_windows(vocab_size: int, width: int) -> np.ndarray:
  """Returns every window of a width, [V ** width, width]."""
  return np.array(list(itertools.product(range(vocab_size), repeat=width)))


class _Slow:
  """Kneser-Ney with dictionaries and loops, as in the papers.

  Attributes:
    counts: how often each gram was seen, by its tokens.
    after: how many different tokens each gram was seen after.
  """

  def __init__(self, documents, vocab_size, order, add):
    self.vocab_size, self.add = vocab_size, add
    self.counts = collections.Counter()
    for document in documents:
      ids = document.tolist()
      for n in range(1, order + 1):
        self.counts.update(
          tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)
        )
    self.after = collections.Counter(gram[1:] for gram in self.counts)
    del self.after[()]

  def probability(self, gram, table=None):
    """Of a gram's last token after the others."""
    table = self.counts if table is None else table
    seen = {each: table[each] for each in table if len(each) == len(gram)}
    if len(gram) == 1:
      total = sum(seen.values()) + self.add * self.vocab_size
      return (seen.get(gram, 0) + self.add) / total
    ones = sum(count == 1 for count in seen.values())
    twos = sum(count == 2 for count in seen.values())
    discount = ones / (ones + 2 * twos) if ones else 0.5
    same = [seen[each] for each in seen if each[:-1] == gram[:-1]]
    lower = self.probability(gram[1:], self.after)
    if not same:
      return lower
    kept = max(seen.get(gram, 0) - discount, 0.0)
    return (kept + discount * len(same) * lower) / sum(same)

  def nats(self, window, order):
    """Of every token of a window except the first."""
    return [
      -np.log(self.probability(tuple(window[max(0, end - order) : end])))
      for end in range(2, len(window) + 1)
    ]


_DOCUMENTS = st.lists(
  st.lists(st.integers(0, 2), min_size=1, max_size=20).map(np.array),
  min_size=1,
  max_size=5,
).filter(lambda documents: max(map(len, documents)) > 1)


class NgramTest(base.TestCase):
  @hypothesis.given(_TOKENS, _ADD, st.integers(1, 5))
  @hypothesis.settings(max_examples=50, deadline=None)
  def test_probabilities_sum_to_one(self, tokens, add, order):
    """After every context, seen or not; no probability is zero."""
    model = ngram.fit_ngrams(tokens, _V, order, add)
    # The contexts of every length up to 4, of tokens seen and not seen.
    nats = model.nats(_all_windows(_V, 5))
    self.assertTrue(np.isfinite(nats).all())
    np.testing.assert_allclose(
      np.exp(-nats[:, -1]).reshape(-1, _V).sum(1), 1.0, rtol=1e-12
    )

  @hypothesis.given(_DOCUMENTS, _ADD, st.integers(1, 5), st.integers(1, 9))
  @hypothesis.settings(max_examples=50, deadline=None)
  def test_equals_the_definition(self, documents, add, order, chunk):
    """Documents, chunks and ways to search change nothing."""
    ends = np.cumsum([len(each) for each in documents])
    slow = _Slow(documents, 4, order, add)
    windows = np.random.default_rng(chunk).integers(0, 4, (20, 6))
    for many in (0, 1 << 18):
      with (
        mock.patch.object(ngram, "_CHUNK", chunk),
        mock.patch.object(ngram, "_MANY", many),
      ):
        model = ngram.fit_ngrams(np.concatenate(documents), 4, order, add, ends)
        for n in range(1, order + 1):
          np.testing.assert_allclose(
            model.nats(windows, n),
            [slow.nats(window, n) for window in windows],
            rtol=1e-12,
          )

  @hypothesis.given(_TOKENS, _ADD)
  @hypothesis.settings(max_examples=50, deadline=None)
  def test_context_grows_from_the_start_of_a_window(self, tokens, add):
    """A token with k before it is scored by order k + 1."""
    model = ngram.fit_ngrams(tokens, _V, 5, add)
    windows = tokens[: len(tokens) // 3 * 3].reshape(-1, 3)
    if len(windows):
      for order in (3, 4, 5):
        np.testing.assert_array_equal(
          model.nats(windows, order), model.nats(windows, 3)
        )
      np.testing.assert_array_equal(
        model.nats(windows, 3)[:, 0], model.nats(windows[:, :2], 2)[:, 0]
      )

  def test_documents_that_repeat_one_token(self):
    """The next token is known, although documents differ."""
    tokens = np.repeat(np.arange(40), 100)
    windows = np.repeat(np.arange(40)[:, None], 17, axis=1)
    ends = np.arange(100, 4001, 100)
    for order in (2, 5):
      apart = ngram.fit_ngrams(tokens, 40, order, ends=ends).nats(windows)
      joined = ngram.fit_ngrams(tokens, 40, order).nats(windows)
      self.assertLess(apart.mean(), 0.006)
      self.assertLess(apart.mean(), joined.mean())
    with self.assertRaisesRegex(ValueError, "two ids in a document"):
      ngram.fit_ngrams(np.arange(4), 4, 2, ends=np.arange(1, 5))

  def test_unigram_counts(self):
    """Probabilities are (count + add) / (tokens + add V) in every context."""
    model = ngram.fit_ngrams(np.array([0, 0, 2, 0]), 3, 1, 0.5)
    nats = model.nats(np.array([[1, 0, 1], [0, 2, 2]]))
    expected = np.array([[3.5, 0.5], [1.5, 1.5]]) / 5.5
    np.testing.assert_allclose(np.exp(-nats), expected)

  def test_the_first_token_is_not_scored(self):
    """Windows [.., N + 1] give scores [.., N]."""
    tokens = np.array([0, 1, 2, 0, 1, 2, 0, 1, 3])
    model = ngram.fit_ngrams(tokens, 4, 5)
    for order in range(1, 6):
      nats = model.nats(tokens.reshape(3, 1, 3).astype(np.uint8), order)
      self.assertEqual(nats.shape, (3, 1, 2))
      self.assertEqual(nats.dtype, np.float64)
      np.testing.assert_array_equal(
        nats[1, 0], model.nats(np.array([0, 1, 2]), order)
      )
      self.assertEqual(model.nats(np.zeros((0, 3), int), order).shape, (0, 2))

  def test_scores_approach_the_entropy_of_markov_text(self):
    """The bigram reaches the entropy rate, the unigram the token entropy."""
    rng = np.random.default_rng(0)
    transition = rng.dirichlet(np.full(8, 0.5), size=8)
    draws = rng.random(120_000)
    bounds = transition.cumsum(axis=1)
    bounds[:, -1] = 1.0
    tokens = np.zeros(len(draws), np.int64)
    for i in range(1, len(tokens)):
      tokens[i] = np.searchsorted(bounds[tokens[i - 1]], draws[i])
    stationary = np.linalg.matrix_power(transition, 200)[0]
    rate = -(stationary[:, None] * transition * np.log(transition)).sum()
    single = -(stationary * np.log(stationary)).sum()
    train, windows = tokens[:100_000], tokens[100_000:].reshape(-1, 50)
    model = ngram.fit_ngrams(train, 8, 3)
    unigram, bigram, trigram = (
      model.nats(windows, order).mean() for order in (1, 2, 3)
    )
    # The standard error is 0.007: 20 000 tokens, sd of about 1 nat each.
    self.assertAlmostEqual(bigram, rate, delta=0.03)
    self.assertAlmostEqual(unigram, single, delta=0.03)
    self.assertAlmostEqual(trigram, rate, delta=0.03)
    self.assertLess(bigram, unigram - 0.1)

  def test_a_large_vocabulary_needs_little_memory(self):
    """Memory grows with the n-grams seen, and no code overflows."""
    rng, vocab_size = np.random.default_rng(0), 250_000
    tokens = rng.integers(0, vocab_size, 2000).astype(np.uint32)
    model = ngram.fit_ngrams(tokens, vocab_size, 5)
    pairs = {vocab_size * v + w for v, w in itertools.pairwise(tokens.tolist())}
    self.assertEqual(model.codes[1][:-1].tolist(), sorted(pairs))
    for codes in model.codes[1:]:
      self.assertLessEqual(len(codes), len(tokens))
      self.assertLess(codes[-2], vocab_size**2)
    seen, unseen = model.nats(tokens), model.nats(tokens[::-1])
    self.assertLess(seen.mean(), unseen.mean())
    self.assertTrue(np.isfinite(unseen).all())

  def test_documents_shorter_than_the_grams(self):
    """The longest grams are never seen; shorter ones predict."""
    ends = np.arange(2, 21, 2)
    tokens = np.tile([0, 1], 10)
    model = ngram.fit_ngrams(tokens, 3, 5, ends=ends)
    self.assertEqual([len(each) - 1 for each in model.codes], [3, 1, 0, 0, 0])
    windows = _all_windows(3, 5)
    self.assertTrue(np.isfinite(model.nats(windows)).all())

  @parameterized.parameters(1, 2, 5)
  def test_bad_input_is_refused(self, order):
    """Errors of fitting and scoring name the bad value."""
    fit = functools.partial(ngram.fit_ngrams, vocab_size=5, order=order)
    for add in (0.0, -1.0, float("nan")):
      with self.assertRaisesRegex(ValueError, f"add must be pos.*, not {add}"):
        fit(np.arange(5), add=add)
    for tokens in (np.zeros(0, int), np.zeros(1, int)):
      with self.assertRaisesRegex(
        ValueError, "tokens must have at least two ids, not"
      ):
        fit(tokens)
    model = fit(np.arange(5))
    with self.assertRaisesRegex(
      ValueError, "windows must have at least two tokens, not 1"
    ):
      model.nats(np.zeros((3, 1), int))
    for bad in ([0, 5], [-1, 0]):
      message = rf"must lie in 0\.\.4, not in {min(bad)}\.\.{max(bad)}"
      with self.assertRaisesRegex(ValueError, message):
        fit(np.array(bad))
      with self.assertRaisesRegex(ValueError, message):
        model.nats(np.array(bad))
    for bad in ([0.5, 1.0], [True, False]):
      with self.assertRaisesRegex(ValueError, "tokens must be integers, not"):
        fit(np.array(bad))
    for bad in (0, order + 1):
      with self.assertRaisesRegex(ValueError, rf"lie in 1\.\.{order}, not"):
        model.nats(np.arange(5), bad)
    with self.assertRaisesRegex(ValueError, "order must be at least 1, not 0"):
      fit(np.arange(5), order=0)


if __name__ == "__main__":
  absltest.main()
