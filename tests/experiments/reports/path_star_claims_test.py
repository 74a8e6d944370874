"""What is claimed of numbers that are known."""

import numpy as np

from experiments.reports import path_star_claims as stars_claims
from jaxlook.planning.stars import questions as stars
from jaxlook.planning.stars.settings import (
  FORWARD,
  MASKED,
  REVERSED,
  TEACHERLESS,
  WEIGHTS,
)
from jaxlook.stats import claims
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL
from tests.fixtures import base, path_stars


def verdicts(every):
  """By id."""
  judged = claims.judged(stars_claims.statements(every))
  found = {claim.id: claim.verdict for claim in judged}
  assert len(found) == len(judged), "an id is used twice"
  return found


class StarsClaimsTest(base.TestCase):
  def test_verdicts(self):
    """Each claim is judged by the number that it names."""
    self.assertEqual(
      verdicts(path_stars.settings()),
      {
        "forward/edges": "supported",
        "B1/first": "supported",
        "B1/later": "supported",
        f"forward/{KV}/less": "contradicted",
        f"forward/swap/answer/{CAUSAL}": "supported",
        f"forward/swap/answer/{KV}": "supported",
        "B2/easy": "supported",
        "B2/hard": "contradicted",
        f"reversed/{RESIDUAL}/less": "supported",
        f"reversed/swap/answer/{CAUSAL}": "supported",
        f"reversed/swap/answer/{RESIDUAL}": "supported",
        "B4/weights": "contradicted",
        "B4/weights/above_chance": "supported",
        f"B4/weights/{RESIDUAL}/above_chance": "supported",
        f"B4/weights/{RESIDUAL}/above_chance/path": "supported",
        f"B4/weights/{RESIDUAL}/no_loss": "supported",
        f"B4/weights/{RESIDUAL}/no_loss/path": "supported",
        f"B4/weights/{KV}/above_chance": "contradicted",
        f"B4/weights/{KV}/above_chance/path": "contradicted",
        f"B4/weights/{KV}/no_loss": "contradicted",
        f"B4/weights/{KV}/no_loss/path": "contradicted",
        f"weights/swap/answer/{CAUSAL}": "supported",
        f"weights/swap/answer/{RESIDUAL}": "supported",
        f"weights/swap/answer/{KV}": "supported",
      },
    )

  def test_nothing_is_said_of_plans_where_edges_are_not_known(self):
    """First steps below a guess among the arms tell of training alone."""
    for setting in (FORWARD, TEACHERLESS, MASKED):
      fails = path_stars.found(0.2, 0.2, setting)
      self.assertEqual(
        verdicts({setting: {CAUSAL: fails, KV: fails}}),
        {f"{setting}/edges": "contradicted"},
      )

  def test_nothing_is_lost_where_nothing_was_learned(self):
    """A cut that fails with ordinary training supports no prediction."""
    fails = path_stars.found(0.5, 0.5, WEIGHTS)
    found = verdicts({WEIGHTS: {CAUSAL: fails, KV: fails}})
    self.assertEmpty([id for id in found if "no_loss" in id])
    self.assertEqual(found[f"B4/weights/{KV}/above_chance"], "contradicted")
    # First steps alone can be learned, too.
    half = path_stars.found(0.9, 0.5, WEIGHTS)
    found = verdicts({WEIGHTS: {CAUSAL: half, KV: half}})
    self.assertEqual(found[f"B4/weights/{KV}/no_loss"], "supported")
    self.assertNotIn(f"B4/weights/{KV}/no_loss/path", found)

  def test_a_swap_that_moves_no_more_than_none(self):
    """Who guesses arms writes the donor's path without any swap, too.

    Nor does it count what moves at the goal, before the first block, or after
    the step out of the start.
    """
    for setting, step in ((FORWARD, 0), (REVERSED, 1)):
      one = path_stars.found(0.5, 0.5, setting)
      # Of two steps, then of the whole answer.
      moved = np.full_like(one.answers.moved, 0.5)
      moved[:, one.places.index(stars.GOAL)] = 1.0
      mark = moved[:, one.places.index(stars.ANSWER)]
      mark[:, [0, 2]] = mark[:, 1] = 1.0
      mark[:, 1, step] = 0.5
      one = one._replace(answers=one.answers._replace(moved=moved))
      found = verdicts({setting: {CAUSAL: one}})
      self.assertEqual(found[f"{setting}/swap/answer/{CAUSAL}"], "contradicted")
