"""The exact losses equal counts over all couplets of a small language."""

import dataclasses
import functools
import itertools
import math

import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.tasks import couplets_oracle as oracle
from jaxlook.tasks.couplets import Couplets
from tests.fixtures import base

_PARTS = ("m1", "m2", "art", "e2")


def _lead(c, j):
  """Returns topic and article of a word, by the definition."""
  return 2 * j + (c >> j) % 2, (c >> (j + 1) % 4) % 2


@functools.cache
def _second_lines(rhymes, end_only):
  """Lists all equally likely (key, m1, m2, art, e2).

  Two modifiers per topic stand for eight: m1 and m2 then cost ln 4 less each.
  Without a rhyme two keys stand for sixteen.
  """
  lines = []
  words = list(itertools.product(range(16), range(4)))
  for key in range(16) if rhymes else range(2):
    for c in [key] if rhymes else range(16):
      for j in range(4):
        for lead in words if end_only else [(c, j)]:
          topic, article = _lead(*lead)
          for m1, m2 in itertools.product(range(2), repeat=2):
            lines.append(
              (key, 2 * topic + m1, 2 * topic + m2, article, 4 * c + j)
            )
  return np.asarray(lines)


def _conditional_entropy(known, unknown):
  """Returns H(unknown | known) over equally likely rows, nats."""

  def entropy(columns):
    _, counts = np.unique(columns, axis=0, return_counts=True)
    share = counts / counts.sum()
    return -(share * np.log(share)).sum()

  if known.shape[1] == 0:
    return entropy(unknown)
  return entropy(np.concatenate([known, unknown], axis=1)) - entropy(known)


class CoupletsOracleTest(base.TestCase):
  @parameterized.product(
    reader=oracle.READERS, rhymes=(True, False), end_only=(True, False)
  )
  def test_second_line_equals_counts(self, reader, rhymes, end_only):
    """Each reader's loss is the entropy given the tokens that it uses."""
    lines = _second_lines(rhymes, end_only)
    task = Couplets(modifiers=2, end_only=end_only)
    losses = oracle.losses(task, reader, rhymes)
    uses = {"planner": _PARTS, "improviser": ("e2",), "blind": ()}[reader]
    for place, part in enumerate(_PARTS, start=1):
      before = lines[:, (0 if part in uses else 1) : place]
      counted = _conditional_entropy(before, lines[:, place : place + 1])
      fewer = math.log(4) if part in ("m1", "m2") else 0.0
      self.assertAlmostEqual(losses[part], counted + fewer, places=9)

  def test_published_table(self):
    """The losses equal the published table, to three decimals."""
    for reader, row in (
      ("blind", (4.159, 2.079, 2.079, 0.693, 1.386, 0.0)),
      ("improviser", (4.159, 2.079, 2.079, 0.693, 0.0, 1.386)),
      ("planner", (3.466, 2.079, 2.079, 0.0, 0.0, 2.773)),
    ):
      task = Couplets()
      losses = oracle.losses(task, reader, True)
      found = [losses[part] for part in ("m1", "m2", "m3", "art", "e2")]
      found.append(oracle.value(task, reader))
      np.testing.assert_allclose(found, row, atol=6e-4)

  def test_planning_mid_line_is_worth_two_bits(self):
    """It is worth 2 ln 2 per couplet, or 0 where improvising is optimal."""
    for end_only, worth in ((False, 2 * math.log(2)), (True, 0.0)):
      task = Couplets(end_only=end_only)
      planner, improviser = (
        oracle.value(task, reader) for reader in ("planner", "improviser")
      )
      self.assertAlmostEqual(planner - improviser, worth)
      self.assertAlmostEqual(planner, math.log(16))

  @parameterized.product(
    key=("lookup", "tally"), late_genre=(True, False), end_only=(True, False)
  )
  def test_the_planners_loss_is_the_entropy_of_a_couplet(
    self, key, late_genre, end_only
  ):
    """Over all positions, the planner's loss is the entropy of the draws."""
    task = Couplets(
      p=0.3, key=key, late_genre=late_genre, end_only=end_only, pairs=3
    )
    genre = -0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    if key == "lookup":
      line1 = 4 * math.log(16) + math.log(64)
    else:
      line1 = 6 * math.log(4) + math.log(64)
    modifiers = 3 * math.log(8)
    word = 0.3 * math.log(4) + 0.7 * math.log(64)
    # In an end-only line, 8 topics and 2 articles are independent of e2.
    lead = math.log(16) if end_only else 0.0
    drawn = genre + line1 + modifiers + word + lead
    self.assertAlmostEqual(task.bound * task.length, drawn)
    free = dataclasses.replace(task, p=0.0)
    self.assertAlmostEqual(free.bound, free.chance)
    gap = 0.3 * math.log(16) / task.length
    self.assertAlmostEqual(task.chance - task.bound, gap)

  def test_positions(self):
    """Losses are at the positions where classes are predicted."""
    for late, at in ((False, 0), (True, 7)):
      task = Couplets(p=0.25, late_genre=late)
      rhyming = task.expected("planner", True)
      self.assertAlmostEqual(rhyming[at], math.log(4))
      self.assertEqual(rhyming[7 - at], 0.0)
      np.testing.assert_allclose(rhyming[1:5], math.log(16))
      self.assertAlmostEqual(rhyming[5], math.log(64))
      self.assertAlmostEqual(rhyming[8], math.log(32))
      self.assertEqual(rhyming[-1], 0.0)
      free = task.expected("planner", False)
      self.assertAlmostEqual(free[at], -math.log(0.75))
      np.testing.assert_array_equal(free, task.expected("blind", False))
    self.assertEqual(Couplets().expected("blind", False)[0], math.inf)
    self.assertTrue(math.isfinite(Couplets().chance))

  def test_unknown_readers_are_refused(self):
    """The error lists the three readers."""
    with self.assertRaisesRegex(ValueError, "reader must be one of planner"):
      oracle.losses(Couplets(), "deaf", True)  # pyright: ignore


if __name__ == "__main__":
  absltest.main()
