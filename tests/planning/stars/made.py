"""Numbers of models that are known, as if they had been measured."""

import numpy as np

from jaxlook.planning.stars import plans as stars
from jaxlook.planning.stars.answers import Answers
from jaxlook.planning.stars.settings import FORWARD, REVERSED, WEIGHTS, Found
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL

# Around 0, over three seeds.
_NOISE = np.array([-0.001, 0.0, 0.001])


def answers(first: float, whole: float, places: tuple[str, ...]) -> Answers:
  """Of three seeds, two layers, two steps; swaps at the prompt's end move."""
  steps = np.stack([first + _NOISE, 1.0 - _NOISE**2], axis=1)
  layers = np.full((3, 3), 0.5)
  moved = np.full((3, len(places), 3, 3), 0.25)
  mark = stars.ANSWER if stars.ANSWER in places else stars.GOAL
  moved[:, places.index(mark)] = 0.75 + _NOISE[:, None, None]
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
    forced=np.column_stack([mine.correct, mine.whole]),
    untrained=mine,
    seen=mine.correct if in_weights else None,
    first=-1 if setting == REVERSED else 0,
    clever_hans=np.array([np.log(2), 0.0]),
    chance=0.5,
    places=places,
  )


def settings() -> dict[str, dict[str, Found]]:
  """Models of three settings, by setting and variant."""
  return {
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
