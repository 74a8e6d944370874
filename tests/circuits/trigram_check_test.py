"""Summaries and tables of skip-trigrams, from results made by hand."""

import numpy as np
from absl.testing import absltest

from experiments.reports import (
  skip_trigrams_claims,
  skip_trigrams_tables,
)
from jaxlook.circuits import trigram_check as check
from jaxlook.circuits import trigram_counts
from jaxlook.circuits.skip_trigrams import Trigrams
from tests.fixtures import base

# s, A, B, X, Y: after s, A -> X and B -> Y; without s, A and B lead to both.
WINDOWS = np.array(
  [[0, 1, 3], [0, 2, 4]] * 30
  + [[1, 1, 3], [1, 1, 4], [2, 2, 3], [2, 2, 4]] * 15
)
NAMES = ["s", "A", "B", "|", "`"]


def show(ids):
  """The names of tokens."""
  return [NAMES[token] for token in ids]


def plan(drawn=50):
  """A plan whose held-out text is the text to count in."""
  return check.make_plan(
    *(WINDOWS, WINDOWS, 5), check.TrigramScale(1, 1, 0.0, 1, 2, drawn)
  )


def checked(variant, effects, copying):
  """A 2 x 2 table of one head and source with given effects, for two seeds."""
  grid = np.array([[1, 3], [1, 4], [2, 3], [2, 4]])
  zero = np.zeros(4, int)
  listed, counts, mixed = [], [], []
  for effect in effects:
    each = Trigrams(
      zero, zero, grid[:, 0], grid[:, 1], np.ones(4), np.array(effect)
    )
    other = each._replace(output=each.output[[1, 0, 3, 2]])
    listed.append(each)
    counts.append(trigram_counts.count_trigrams(WINDOWS, *each[1:4]))
    mixed.append(trigram_counts.count_trigrams(WINDOWS, *other[1:4]))
  drawn = np.tile(np.arange(50.0), (2, 1))
  return check.TrigramResults(
    *(variant, (0, 1), listed, counts, mixed, drawn),
    *(np.array(copying), np.array([1.5, 1.25])),
  )


class PlanTest(base.TestCase):
  def test_drawn_ones_occur_in_order(self):
    """Each drawn source precedes its destination in the held-out text."""
    found = plan()
    self.assert_close(found.probability, np.bincount(WINDOWS.ravel()) / 360)
    occurring = {tuple(window) for window in WINDOWS}
    self.assertContainsSubset({tuple(x) for x in found.drawn.T}, occurring)
    expected = trigram_counts.count_trigrams(WINDOWS, *found.drawn)
    self.assert_close(tuple(found.counts), tuple(expected))

  def test_refuses_texts_of_too_few_tokens(self):
    with self.assertRaisesRegex(
      ValueError,
      "only 2 tokens have a share of at least 0.19 of the text, but 3 are"
      " needed",
    ):
      check.make_plan(
        *(WINDOWS, WINDOWS, 5), check.TrigramScale(1, 1, 0.19, 2, 2, 1)
      )


class SummaryTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.plan = plan()
    self.found = [
      checked("causal", [[4.0, 1, 2, 3], [4, 1, 2, 5]], [[0.5], [0.3]]),
      checked("untrained", [[1.0, 4, 3, 2]] * 2, [[0.1], [-0.1]]),
    ]

  def test_metrics(self):
    """A -> X and B -> Y are true after s; the other entries are not."""
    found = skip_trigrams_claims.metrics(self.plan, self.found[0])
    self.assertEqual(found[0][skip_trigrams_claims.LOSS], 1.5)
    self.assertEqual(found[0][skip_trigrams_claims.TESTABLE], 1.0)
    self.assertEqual(found[0][skip_trigrams_claims.LISTED], 0.5)
    self.assertEqual(found[0][skip_trigrams_claims.EFFECT], 2.5)
    self.assertEqual(found[0][skip_trigrams_claims.POSITIVE], 1.0)
    # Expected: 15 times X after A or Y after B, 5 times the other entry.
    self.assertAlmostEqual(
      found[0][skip_trigrams_claims.POOLED], np.log2(60 / 40)
    )
    self.assertEqual(found[0][skip_trigrams_claims.FORCED], 0.0)
    self.assertGreater(found[0][skip_trigrams_claims.RANK_LISTED], 0.8)
    other = skip_trigrams_claims.metrics(self.plan, self.found[1])
    self.assertLess(other[0][skip_trigrams_claims.RANK_LISTED], -0.8)

  def test_shares_and_means(self):
    """Three of four entries can be tested; two of four heads copy."""
    copying = np.array([[0.5, -0.3, 0.2, 0.0], [-0.4, -0.2, -0.1, 0.3]])
    counts = [
      each._replace(seen=each.seen * np.array([1, 0, 1, 1]))
      for each in self.found[0].counts
    ]
    found = self.found[0]._replace(copying=copying, counts=counts)
    first, second = skip_trigrams_claims.metrics(self.plan, found).values()
    # Testable are A -> X and B -> Y, which are true, and B -> X.
    self.assertAlmostEqual(first[skip_trigrams_claims.TESTABLE], 3 / 4)
    self.assertAlmostEqual(first[skip_trigrams_claims.LISTED], 2 / 3)
    # Entries that cannot be tested still count in the mean effect.
    self.assertAlmostEqual(
      first[skip_trigrams_claims.EFFECT], (4 + 1 + 2 + 3) / 4
    )
    self.assertAlmostEqual(
      second[skip_trigrams_claims.EFFECT], (4 + 1 + 2 + 5) / 4
    )
    self.assertAlmostEqual(first[skip_trigrams_claims.COPYING], 0.1)
    self.assertAlmostEqual(second[skip_trigrams_claims.COPYING], -0.1)
    self.assertAlmostEqual(first[skip_trigrams_claims.POSITIVE], 2 / 4)
    self.assertAlmostEqual(second[skip_trigrams_claims.POSITIVE], 1 / 4)

  def test_what_the_text_cannot_tell_of_is_left_out(self):
    silent = self.found[0]._replace(
      counts=[
        each._replace(seen=each.seen * 0) for each in self.found[0].counts
      ]
    )
    found = skip_trigrams_claims.metrics(self.plan, silent)[0]
    self.assertEqual(found[skip_trigrams_claims.TESTABLE], 0.0)
    self.assertNotIn(skip_trigrams_claims.LISTED, found)
    self.assertNotIn(skip_trigrams_claims.POOLED, found)
    self.assertEmpty(
      skip_trigrams_claims.measures(self.plan, [silent])[
        skip_trigrams_claims.LISTED
      ]["causal"]
    )

  def test_claims(self):
    """Copying is compared with untrained models, lift with random ones."""
    claims = {
      claim.id: claim
      for claim in skip_trigrams_claims.claims(
        self.plan, self.found, "untrained"
      )
    }
    self.assertEqual(claims["E1/majority"].estimate, 1.0)
    self.assertAlmostEqual(claims["E1/learned"].estimate, 0.4)
    self.assertAlmostEqual(claims["E1/untrained"].estimate, 0.0)
    self.assertEqual(claims["trigrams/bugs"].verdict, "contradicted")
    self.assertNotIn("asked/kv", claims)

  def test_tables(self):
    """Shows a source's strongest entry; tokens cannot break the Markdown."""
    tables = skip_trigrams_tables.tables(
      self.plan, self.found, "untrained", show
    )
    strongest = next(tables[t] for t in tables if t.startswith("Strongest"))
    self.assertLen(strongest, 2)
    self.assertEqual(strongest[1][1], '`"s" ... "A" → "\\|"`')
    self.assertEqual(strongest[1][2:5], ["1", "4", "4"])
    self.assertEqual(strongest[1][-1], "30")
    self.assertEqual(
      skip_trigrams_tables.quoted(show, (0, 2, 4)), '``"s" ... "B" → "`"``'
    )

  def test_bugs_are_told_with_what_forces_them(self):
    """A -> Y and B -> X are bugs with enough data; the stronger is shown."""
    many = [
      each._replace(**{k: 10 * v for k, v in each._asdict().items()})
      for each in self.found[0].counts
    ]
    found = self.found[0]._replace(counts=many)
    self.assertEqual(
      skip_trigrams_claims.metrics(self.plan, found)[0][
        skip_trigrams_claims.FORCED
      ],
      0.5,
    )
    tables = skip_trigrams_tables.tables(self.plan, [found], "untrained", show)
    bugs = next(tables[t] for t in tables if t.startswith("Bugs"))
    self.assertEqual(
      bugs[1:],
      [
        [
          "0",
          '``"s" ... "B" → "`"``',
          '`"s" ... "A" → "\\|"`',
          '`"s" ... "B" → "\\|"`',
          "2",
          "0 of 300",
        ]
      ],
    )


if __name__ == "__main__":
  absltest.main()
