"""The tables have the properties that the language needs, by enumeration."""

import itertools
import math

import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.tasks import couplets_language as language
from tests.fixtures import base

_TABLES = language.tally_tables()
_PAIRS = 5


def _entropy(share):
  """Returns the entropy along the last axis, nats."""
  return -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=-1)


def _classes_by_as():
  """Counts P(class | a_1 .. a_5) over all 16^5 lines; [4, 4, 4, 4, 4, 16]."""
  bits = np.zeros((4, *[4] * (2 * _PAIRS)), np.int8)
  for pair in range(_PAIRS):
    shape = [4] + [1] * 2 * _PAIRS
    shape[1 + pair] = shape[1 + _PAIRS + pair] = 4
    bits += _TABLES.reshape(shape).astype(np.int8)
  classes = sum(2**k * (bits[k] > 0).astype(np.uint8) for k in range(4))
  classes = classes.reshape(4**_PAIRS, 4**_PAIRS)
  counts = [(classes == c).sum(axis=1) for c in range(16)]
  return np.stack(counts, axis=-1).reshape(*[4] * _PAIRS, 16) / 4**_PAIRS


class CoupletsLanguageTest(base.TestCase):
  def test_tally_tables(self):
    """The four tables are balanced and orthogonal, with all sign patterns."""
    self.assertEqual(set(_TABLES.ravel()), {-1, 1})
    np.testing.assert_array_equal(_TABLES.sum(axis=1), 0)
    np.testing.assert_array_equal(_TABLES.sum(axis=2), 0)
    flat = _TABLES.reshape(4, 16)
    np.testing.assert_array_equal(flat @ flat.T, 16 * np.eye(4))
    self.assertLen({tuple(column) for column in flat.T}, 16)

  def test_classes_of_tallies(self):
    """At K = 5 classes are uniform, and the a's carry little information."""
    by_as = _classes_by_as()
    np.testing.assert_array_equal(by_as.mean(axis=(0, 1, 2, 3, 4)), 1 / 16)
    ones = language.bits(np.arange(16)).astype(float)
    np.testing.assert_array_equal(by_as @ ones, 0.5)
    # Topic and article together depend on a bit and the next one.
    next_too = ones * np.roll(ones, -1, axis=1)
    np.testing.assert_array_equal(by_as @ next_too, 0.25)
    by_first = by_as.mean(axis=(1, 2, 3, 4))
    information = math.log(16) - _entropy(by_first).mean()
    self.assertAlmostEqual(information, 0.0124, delta=5e-5)
    self.assertAlmostEqual(
      math.log(16) - _entropy(by_as).mean(), 0.0890, delta=5e-5
    )

  def test_any_four_tables_reveal_some_of_the_class(self):
    """Of four balanced rows of length 4, two are equal or opposite."""
    rows = [r for r in itertools.product((-1, 1), repeat=4) if sum(r) == 0]
    self.assertLen(rows, 6)
    for four in itertools.product(rows, repeat=4):
      products = np.asarray(four) @ np.asarray(four).T
      self.assertEqual(np.abs(np.triu(products, 1)).max(), 4)
    # Here this is one pair of tables, in every row and in every column.
    for axis, pair in ((1, (1, 3)), (0, (0, 2))):
      for k, other in itertools.combinations(range(4), 2):
        known = np.abs((_TABLES[k] * _TABLES[other]).sum(axis=axis))
        np.testing.assert_array_equal(known, 4 * ((k, other) == pair))

  @parameterized.parameters(*range(8))
  def test_topics(self, topic):
    """A topic has 8 words of 8 classes, 4 with each article."""
    classes, _ = np.nonzero(topic == language.TOPIC_OF)
    self.assertLen(set(classes), 8)
    self.assertLen(classes, 8)
    articles = language.ARTICLE_OF[topic == language.TOPIC_OF]
    self.assertEqual(articles.sum(), 4)
    self.assertLen(articles, 8)

  def test_words(self):
    """Topic and article of a word follow from the bits of its class."""
    for r, j in np.ndindex(16, 4):
      bits = [int(bit) for bit in reversed(f"{r:04b}")]
      self.assertEqual(language.TOPIC_OF[r, j], 2 * j + bits[j])
      self.assertEqual(language.ARTICLE_OF[r, j], bits[(j + 1) % 4])
      self.assertEqual(
        language.topic_posterior()[r, language.TOPIC_OF[r, j]], 0.25
      )
    np.testing.assert_array_equal(language.topic_posterior().sum(axis=1), 1)

  def test_names(self):
    """Each token has a unique name."""
    self.assertLen(set(language.NAMES), language.VOCAB_SIZE)
    for token, name in (
      (language.BOS, "BOS"),
      (language.RHY, "RHY"),
      (language.FREE, "FREE"),
      (language.NL, "NL"),
      (language.U, "U"),
      (language.EOS, "EOS"),
      (language.ARTICLE + 1, "A1"),
      (language.WORD + 4 * 3 + 2, "w3.2"),
      (language.MODIFIER + 8 * 5 + 7, "m5.7"),
      (language.FILLER, "f0"),
      (language.LEFT + 3, "a3"),
      (language.RIGHT, "b0"),
    ):
      self.assertEqual(language.NAMES[token], name)


if __name__ == "__main__":
  absltest.main()
