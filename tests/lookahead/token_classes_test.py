"""Kinds of token against loops and against texts classed by hand."""

import hypothesis
import numpy as np
from absl.testing import absltest
from hypothesis import strategies as st

from jaxlook.lookahead import token_classes as classes
from tests.fixtures import base


def classed(kind) -> list[list[str]]:
  """The label of every token."""
  return [[kind.classes[place] for place in row] for row in kind.token_class]


class KindsTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.shown = ["the", " cat", "s", "\n", ".", " ", "A", "<C3>", " 's"]
    #  the| cat s . \n A  the A é(part) s | A | " " the
    tokens = [0, 1, 2, 4, 3, 6, 0, 6, 7, 2, 5, 0, 8]
    self.windows = np.array([tokens, tokens[::-1]])
    self.counts = np.arange(9)
    self.kinds = classes.token_kinds(self.windows, self.counts, self.shown)

  def test_words(self):
    """A space, a line or a mark before letters begins a word."""
    begins, goes_on, none = (
      classes.BEGINS,
      classes.CONTINUES,
      classes.NO_WORD,
    )
    self.assertEqual(
      classed(self.kinds[classes.WORD])[0],
      #  cat     s        .     \n    A       the      A        part
      [begins, goes_on, none, none, begins, goes_on, goes_on, none]
      #  s (after a part)  space  the     's
      + [begins, none, begins, none],
    )

  def test_lines(self):
    """Only the token right after a line break."""
    after = self.kinds[classes.LINE].mask(classes.AFTER_BREAK)
    self.assertEqual(np.flatnonzero(after[0]).tolist(), [4])
    self.assertEqual(np.flatnonzero(after[1]).tolist(), [8])

  def test_recurrence(self):
    """Within the window only, its first token counts as seen."""
    again = self.kinds[classes.REPEATED].mask(classes.AGAIN)
    self.assertEqual(np.flatnonzero(again[0]).tolist(), [5, 6, 8, 10])
    labels = classed(self.kinds[classes.DISTANCE])[0]
    self.assertEqual(labels[5:7], ["4..7", "2..3"])
    self.assertEqual((labels[8], labels[10]), ("4..7", "4..7"))
    self.assertEqual(labels.count(classes.NEW), 8)

  def test_positions(self):
    """Octaves, the last as long as the window lets it be."""
    found = self.kinds[classes.POSITION]
    self.assertEqual(found.classes, ("0", "1", "2..3", "4..7", "8..11"))
    np.testing.assert_array_equal(
      found.token_class, [[0, 1, 2, 2] + [3] * 4 + [4] * 4] * 2
    )

  @hypothesis.given(
    st.lists(
      st.lists(st.integers(0, 4), min_size=6, max_size=6),
      min_size=1,
      max_size=4,
    )
  )
  @hypothesis.settings(max_examples=100, deadline=None)
  def test_distances_are_those_of_a_loop(self, rows):
    """To the nearest earlier place of the same token."""
    wanted = [
      [
        next((d for d in range(1, at + 1) if row[at - d] == row[at]), 0)
        for at in range(1, len(row))
      ]
      for row in rows
    ]
    found = classes.last_distances(np.array(rows))
    self.assertEqual(found.tolist(), wanted)

  @hypothesis.given(
    st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 6)
  )
  @hypothesis.settings(max_examples=100, deadline=None)
  def test_bins_follow_the_counts(self, counts, bins):
    """Rarer tokens lie no higher, equal ones together, commonest not lower."""
    counts = np.array(counts)
    hypothesis.assume(counts.sum())
    found, labels = classes.frequency_bins(counts, bins)
    order = np.argsort(counts, kind="stable")
    self.assertTrue((np.diff(found[order]) >= 0).all())
    for value in set(counts.tolist()):
      self.assertLen(set(found[counts == value].tolist()), 1)
    self.assertLen(labels, bins)

  def test_bins_hold_their_share(self):
    """Of a thousand tokens of one to a thousand times, a fifth of the text."""
    counts = np.arange(1, 1001)
    found, labels = classes.frequency_bins(counts, 5)
    shares = np.bincount(found, weights=counts) / counts.sum()
    np.testing.assert_allclose(shares, 0.2, atol=2e-3)
    self.assertEqual(labels[0], "1: 1..447")
    self.assertEqual(labels[4], "5: 895..1000")

  def test_refuses_what_cannot_be_classed(self):
    """Spellings that are not the tokens', and a text without any."""
    with self.assertRaisesRegex(ValueError, "9 counts, but 2 spellings"):
      classes.token_kinds(self.windows, self.counts, ["a", "b"])
    with self.assertRaisesRegex(ValueError, "no token was counted"):
      classes.frequency_bins(np.zeros(3, int), 2)


if __name__ == "__main__":
  absltest.main()
