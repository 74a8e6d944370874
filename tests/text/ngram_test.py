"""Unigram and bigram baselines against loops and entropies."""

import collections
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


def _all_pairs(vocab_size: int) -> np.ndarray:
  """Returns windows [V, V, 2] of every token followed by every token."""
  grid = np.meshgrid(*[np.arange(vocab_size)] * 2, indexing="ij")
  return np.stack(grid, axis=-1)


def _kneser_ney(tokens, vocab_size, add) -> np.ndarray:
  """Computes probabilities [V, V] with dictionaries and loops."""
  pairs = collections.Counter(
    zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True)
  )
  ones = sum(count == 1 for count in pairs.values())
  twos = sum(count == 2 for count in pairs.values())
  discount = ones / (ones + 2 * twos) if ones else 0.5
  probabilities = np.zeros((vocab_size, vocab_size))
  for v in range(vocab_size):
    total = sum(count for pair, count in pairs.items() if pair[0] == v)
    kinds = sum(pair[0] == v for pair in pairs)
    for w in range(vocab_size):
      contexts = sum(pair[1] == w for pair in pairs)
      lower = (contexts + add) / (len(pairs) + add * vocab_size)
      if total:
        kept = max(pairs.get((v, w), 0) - discount, 0) / total
        probabilities[v, w] = kept + discount * kinds / total * lower
      else:
        probabilities[v, w] = lower
  return probabilities


class NgramTest(base.TestCase):
  @hypothesis.given(_TOKENS, _ADD)
  @hypothesis.settings(max_examples=50, deadline=None)
  def test_probabilities_sum_to_one(self, tokens, add):
    """This holds after every token, seen or not; no probability is zero."""
    for fit in (ngram.fit_unigram, ngram.fit_bigram):
      nats = fit(tokens, _V, add).nats(_all_pairs(_V))[..., 0]
      self.assertTrue(np.isfinite(nats).all())
      np.testing.assert_allclose(np.exp(-nats).sum(1), 1.0, rtol=1e-12)

  @hypothesis.given(_TOKENS, _ADD)
  @hypothesis.settings(max_examples=50, deadline=None)
  def test_bigram_is_kneser_ney(self, tokens, add):
    """Probabilities equal those from loops over all pairs."""
    nats = ngram.fit_bigram(tokens, _V, add).nats(_all_pairs(_V))[..., 0]
    expected = _kneser_ney(tokens, _V, add)
    np.testing.assert_allclose(np.exp(-nats), expected, rtol=1e-12)

  @hypothesis.given(
    st.lists(_TOKENS, min_size=1, max_size=5), _ADD, st.integers(1, 9)
  )
  @hypothesis.settings(max_examples=50, deadline=None)
  def test_pairs_across_the_ends_of_documents(self, documents, add, chunk):
    """They are not counted, whatever the chunks."""
    tokens = np.concatenate(documents)
    ends = np.cumsum([len(each) for each in documents])
    with mock.patch.object(ngram, "_CHUNK", chunk):
      found = ngram.fit_bigram(tokens, _V, add, ends)
    pairs = np.concatenate(
      [np.stack([each[:-1], each[1:]], axis=1) for each in documents]
    )
    # A token of its own between the pairs; they are counted without it.
    codes, counts = np.unique(pairs @ [_V, 1], return_counts=True)
    np.testing.assert_array_equal(found.codes, codes)
    totals = np.bincount(codes // _V, counts, minlength=_V)
    once, twice = np.sum(counts == 1), np.sum(counts == 2)
    discount = once / (once + 2 * twice) if once else 0.5
    np.testing.assert_allclose(
      found.kept, (counts - discount) / totals[codes // _V]
    )

  def test_documents_that_repeat_one_token(self):
    """The next token is known, although documents differ."""
    tokens = np.repeat(np.arange(40), 100)
    windows = np.repeat(np.arange(40)[:, None], 17, axis=1)
    ends = np.arange(100, 4001, 100)
    apart = ngram.fit_bigram(tokens, 40, ends=ends).nats(windows).mean()
    self.assertLess(apart, 0.006)
    self.assertLess(apart, ngram.fit_bigram(tokens, 40).nats(windows).mean())
    with self.assertRaisesRegex(ValueError, "two ids in a document"):
      ngram.fit_bigram(np.arange(4), 4, ends=np.arange(1, 5))

  def test_unigram_counts(self):
    """Probabilities are (count + add) / (tokens + add V) in every context."""
    model = ngram.fit_unigram(np.array([0, 0, 2, 0]), 3, 0.5)
    nats = model.nats(np.array([[1, 0, 1], [0, 2, 2]]))
    expected = np.array([[3.5, 0.5], [1.5, 1.5]]) / 5.5
    np.testing.assert_allclose(np.exp(-nats), expected)

  def test_the_first_token_is_not_scored(self):
    """Windows [.., N + 1] give scores [.., N]."""
    tokens = np.array([0, 1, 2, 0, 1, 2, 0, 1, 3])
    for fit in (ngram.fit_unigram, ngram.fit_bigram):
      model = fit(tokens, 4)
      nats = model.nats(tokens.reshape(3, 1, 3).astype(np.uint8))
      self.assertEqual(nats.shape, (3, 1, 2))
      self.assertEqual(nats.dtype, np.float64)
      np.testing.assert_array_equal(nats[1, 0], model.nats(np.array([0, 1, 2])))
      self.assertEqual(model.nats(np.zeros((0, 3), int)).shape, (0, 2))

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
    bigram = ngram.fit_bigram(train, 8).nats(windows).mean()
    unigram = ngram.fit_unigram(train, 8).nats(windows).mean()
    # The standard error is 0.007: 20 000 tokens, sd of about 1 nat each.
    self.assertAlmostEqual(bigram, rate, delta=0.03)
    self.assertAlmostEqual(unigram, single, delta=0.03)
    self.assertLess(bigram, unigram - 0.1)

  @hypothesis.given(_TOKENS, st.integers(1, 9))
  @hypothesis.settings(max_examples=30, deadline=None)
  def test_counting_in_chunks_changes_nothing(self, tokens, chunk):
    """Pairs that span two chunks are counted once."""
    whole = ngram.fit_bigram(tokens, _V), ngram.fit_unigram(tokens, _V)
    with mock.patch.object(ngram, "_CHUNK", chunk):
      chunked = ngram.fit_bigram(tokens, _V), ngram.fit_unigram(tokens, _V)
    for a, b in zip(whole, chunked, strict=True):
      np.testing.assert_array_equal(
        a.nats(_all_pairs(_V)), b.nats(_all_pairs(_V))
      )

  def test_a_large_vocabulary_needs_little_memory(self):
    """Memory grows with the pairs seen, not with V squared."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 50257, 2000).astype(np.uint16)
    model = ngram.fit_bigram(tokens, 50257)
    expected = {50257 * v + w for v, w in itertools.pairwise(tokens.tolist())}
    self.assertEqual(model.codes.tolist(), sorted(expected))
    self.assertLen(model.lower, 50257)
    seen, unseen = model.nats(tokens), model.nats(tokens[::-1])
    self.assertLess(seen.mean(), unseen.mean())
    self.assertTrue(np.isfinite(unseen).all())

  @parameterized.parameters(ngram.fit_unigram, ngram.fit_bigram)
  def test_bad_input_is_refused(self, fit):
    """Errors of fitting and scoring name the bad value."""
    for add in (0.0, -1.0, float("nan")):
      with self.assertRaisesRegex(ValueError, f"add must be pos.*, not {add}"):
        fit(np.arange(5), 5, add)
    for tokens in (np.zeros(0, int), np.zeros(1, int)):
      with self.assertRaisesRegex(
        ValueError, "tokens must have at least two ids, not"
      ):
        fit(tokens, 5)
    model = fit(np.arange(5), 5)
    with self.assertRaisesRegex(
      ValueError, "windows must have at least two tokens, not 1"
    ):
      model.nats(np.zeros((3, 1), int))
    for bad in ([0, 5], [-1, 0]):
      message = rf"must lie in 0\.\.4, not in {min(bad)}\.\.{max(bad)}"
      with self.assertRaisesRegex(ValueError, message):
        fit(np.array(bad), 5)
      with self.assertRaisesRegex(ValueError, message):
        model.nats(np.array(bad))
    for bad in ([0.5, 1.0], [True, False]):
      with self.assertRaisesRegex(ValueError, "tokens must be integers, not"):
        fit(np.array(bad), 5)


if __name__ == "__main__":
  absltest.main()
