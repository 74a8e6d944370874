"""What reports say of causal attention beside counts, on losses made up."""

from experiments.reports import ngram_notes
from tests.fixtures import base

_COUNTS = {
  "unigram counts": 3.0,
  "bigram counts": 2.4,
  "3-gram counts": 1.9,
  "4-gram counts": 1.6,
  "5-gram counts": 1.5,
}


def _note(*losses, counts=_COUNTS, setting=""):
  arms = {"causal": dict(enumerate(losses)), "myopic/kv": {0: 9.0, 1: 9.0}}
  (note,) = ngram_notes.notes({setting: arms}, counts)
  return note


class NotesTest(base.TestCase):
  def test_under_trained(self):
    """The losses, the difference and its interval are those given."""
    self.assertEqual(
      _note(2.5, 2.6, 2.7),
      "Under-trained: causal attention (2.6 nats/token) does not beat bigram"
      " counts (2.4 nats/token); do not read gaps as those of a model that uses"
      " its context. The difference is 0.2 [-0.04841, 0.4484] (95% t interval,"
      " 3 seeds).",
    )

  def test_a_lower_mean_is_not_enough(self):
    """The whole interval must be below 0."""
    self.assertTrue(_note(2.1, 2.6).startswith("Under-trained: causal"))
    self.assertTrue(
      _note(2.31, 2.32).startswith("Causal attention, 2.315 nats")
    )

  def test_the_orders_that_are_beaten_and_those_that_are_not(self):
    """Each with its loss; n says what the intervals are over."""
    self.assertEqual(
      _note(1.71, 1.7, 1.69),
      "Causal attention, 1.7 nats/token, beats bigram counts (2.4) and 3-gram"
      " counts (1.9). It does not beat 4-gram counts (1.6) or 5-gram counts"
      " (1.5). It beats counts if the 95% t interval of the difference, over 3"
      " seeds, is below 0.",
    )
    self.assertIn("beats bigram counts (2.4). It does not", _note(2.0, 2.01))
    every = _note(1.0, 1.01)
    self.assertIn("4-gram counts (1.6) and 5-gram counts (1.5). It be", every)
    self.assertNotIn("does not", every)
    # Long grams may do worse than shorter ones on little text.
    odd = _note(1.7, 1.7, counts=_COUNTS | {"5-gram counts": 2.0})
    self.assertIn("and 5-gram counts (2). It does not beat 4-gram co", odd)

  def test_orders_that_were_not_counted(self):
    """The note does not claim that they are beaten."""
    short = {
      name: _COUNTS[name] for name in ("unigram counts", "bigram counts")
    }
    note = _note(1.0, 1.01, counts=short)
    self.assertIn("beats bigram counts (2.4). Longer n-grams do not fit", note)

  def test_one_seed(self):
    """The loss itself is compared, and the note says so."""
    self.assertIn("is 0.1 (1 seed, so no interval).", _note(2.5))
    self.assertIn("1 seed, so this compares losses without", _note(2.3))

  def test_settings(self):
    """One note each; none for a setting whose causal seeds all diverged."""
    arms = {"causal": {0: 2.5, 1: 2.5}}
    found = ngram_notes.notes(
      {"a": arms, "b": {"causal": {}}, "c": {"causal": {0: 1.0}}}, _COUNTS
    )
    self.assertLen(found, 2)
    self.assertTrue(
      found[0].startswith("Under-trained (a): causal attention (2.5")
    )
    self.assertTrue(
      found[1].startswith("Causal attention (c), 1 nats/token, beats")
    )
