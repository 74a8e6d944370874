"""What is claimed and shown of numbers that are known."""

import pathlib
import tempfile

import numpy as np

from jaxlook import claims
from jaxlook.ablation import CAUSAL, KV, RESIDUAL
from jaxlook.planning.stars import plans as stars
from jaxlook.planning.stars import report as stars_report
from jaxlook.planning.stars.answers import Answers
from jaxlook.planning.stars.settings import FORWARD, REVERSED, WEIGHTS, Found
from tests import base

# Around 0, over three seeds.
_NOISE = np.array([-0.001, 0.0, 0.001])


def answers(first: float, whole: float, places: tuple[str, ...]) -> Answers:
  """Of three seeds, two layers and two steps; the goal's swap moves most."""
  steps = np.stack([first + _NOISE, 1.0 - _NOISE**2], axis=1)
  layers = np.full((3, 3), 0.5)
  moved = np.full((3, len(places), 3, 3), 0.25)
  moved[:, places.index(stars.GOAL)] = 0.75 + _NOISE[:, None, None]
  return Answers(
    *(1 - steps, steps, whole + _NOISE, steps, whole + _NOISE),
    *(_NOISE**2, whole + _NOISE, layers, layers),
    *(layers * np.nan, layers * np.nan, moved, 1 - moved),
  )


def found(first: float, whole: float, setting: str = FORWARD) -> Found:
  """Of arms with the chance 1/2."""
  in_weights = setting == WEIGHTS
  places = stars.IN_WEIGHTS if in_weights else stars.IN_CONTEXT
  mine = answers(first, whole, places)
  return Found(
    answers=mine,
    untrained=mine,
    seen=mine.correct if in_weights else None,
    first=-1 if setting == REVERSED else 0,
    clever_hans=np.array([np.log(2), 0.0]),
    chance=0.5,
    places=places,
  )


class StarsReportTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.every = {
      FORWARD: {CAUSAL: found(0.5, 0.5), KV: found(0.5, 0.5)},
      REVERSED: {
        CAUSAL: found(1.0, 0.97, REVERSED),
        RESIDUAL: found(1.0, 0.5, REVERSED),
      },
      WEIGHTS: {
        CAUSAL: found(0.9, 0.9, WEIGHTS),
        RESIDUAL: found(0.88, 0.88, WEIGHTS),
        KV: found(0.4, 0.4, WEIGHTS),
      },
    }

  def test_verdicts(self):
    """Each claim is judged by the number that it names."""
    judged = claims.judged(stars_report.statements(self.every))
    verdicts = {claim.id: claim.verdict for claim in judged}
    self.assertEqual(
      verdicts,
      {
        "B1/first": "supported",
        "B1/later": "supported",
        f"forward/{KV}/less": "contradicted",
        "forward/swap/goal": "supported",
        "B2/easy": "supported",
        "B2/hard": "contradicted",
        f"reversed/{RESIDUAL}/less": "supported",
        "reversed/swap/goal": "supported",
        "B4/weights": "contradicted",
        "B4/weights/above_chance": "supported",
        f"B4/weights/{RESIDUAL}/no_loss": "supported",
        f"B4/weights/{KV}/no_loss": "contradicted",
        "weights/swap/goal": "supported",
      },
    )

  def test_a_swap_that_moves_no_more_than_none(self):
    """Who guesses arms writes the donor's path without any swap, too."""
    one = self.every[FORWARD][CAUSAL]
    moved = np.full_like(one.answers.moved, 0.5)
    one = one._replace(answers=one.answers._replace(moved=moved))
    every = {FORWARD: {CAUSAL: one}}
    judged = claims.judged(stars_report.statements(every))
    self.assertEqual(judged[-1].id, "forward/swap/goal")
    self.assertEqual(judged[-1].verdict, "contradicted")

  def test_tables_and_measurements(self):
    """A row for every arm, and every finite number once, with its place."""
    tables = stars_report.tables(self.every)
    self.assertLen(tables["Accuracy"], 1 + 7)
    for rows in tables.values():
      self.assertEqual({len(row) for row in rows}, {len(rows[0])})
    table = stars_report.measurements(self.every, (4, 5, 6)).to_pylist()
    mine = [
      row["value"]
      for row in table
      if (row["setting"], row["variant"]) == (WEIGHTS, KV)
      and (row["leaves"], row["measure"]) == ("held out", "moved")
      and (row["place"], row["seed"]) == (stars.GOAL, 6)
    ]
    self.assertLen(mine, 3 * 3)
    self.assertAlmostEqual(mine[0], 0.751)
    self.assertEqual({row["seed"] for row in table}, {4, 5, 6})

  def test_figures(self):
    """Every file with a caption is written."""
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    captions = stars_report.draw(folder, self.every, "three seeds")
    self.assertEqual(
      set(captions), {path.name for path in folder.glob("*.png")}
    )
    self.assertLen(captions, 2)
