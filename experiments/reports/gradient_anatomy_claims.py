"""The claims of `gradient_anatomy`, with sources and verdicts."""

import math
from collections.abc import Mapping

import numpy as np

from jaxlook import stats
from jaxlook.lookahead.gradient_anatomy import (
  CUT_METHODS,
  AnatomyResults,
  distance_shares,
  edge_usefulness,
)
from jaxlook.lookahead.gradient_directions import STOPS
from jaxlook.stats.myopia_gap import source_of

AnatomyByVariant = Mapping[str, AnatomyResults]
DirectionsByStep = Mapping[int, Mapping[str, np.ndarray]]

_THREAD = (
  "nostalgebraist, shortform on LessWrong (greaterwrong.com/posts/"
  "A5PJYKw8tw38JpbJC), an argument without an experiment"
)
_ANGLES = "notebook grad_angle of the code of Wu et al. 2024"
_OURS = "jaxlook's own"
_TINY = float(np.nextafter(0.0, 1.0))

GRADIENT_WORDS = {
  "key": "keys",
  "value": "values",
  "key_kernel": "W_K",
  "value_kernel": "W_V",
}
CUT_WORDS = {
  "renormalise": "the other weights scaled up",
  "mean": "the value replaced by its mean",
}
KEYS = slice(1, -1)
"""The keys over which usefulness is averaged. The first key cannot be cut from
its own row; the last key has no later position."""


def claims(
  found: AnatomyByVariant,
  trained: str,
  untrained: str,
  directions: DirectionsByStep,
  early: int | None,
  unit: str,
) -> list[stats.Claim]:
  """The published claims and the thread's claims, with their verdicts.

  Args:
    found: measures by variant.
    trained: the variant whose training is followed.
    untrained: the same seeds before training; may be missing.
    directions: by step, the measures [E] of `measure_directions`, of the
      trained variant.
    early: the step that counts as early; None if training was not followed.
    unit: of the loss.

  Returns:
    Claims; none from fewer than two seeds.
  """
  if len(found[trained].influence) < 2:
    return []
  made = [
    claim
    for variant in (untrained, trained)
    if variant in found
    for claim in _share_claims(variant, found[variant])
  ]
  made += _use_claims(found[trained], unit)
  for stop in STOPS:
    made += _angle_claims(stop, directions, early, trained)
  return made


def _share_claims(variant: str, found: AnatomyResults) -> list[stats.Claim]:
  """Whether most of the gradient to W_K and W_V serves later positions."""
  made = []
  for kind in ("key_kernel", "value_kernel"):
    future_ExL = 1.0 - distance_shares(found.grams[kind])["norm"][..., 0]
    for layer in range(future_ExL.shape[1]):
      made.append(
        stats.claim(
          f"L1/{variant}/{GRADIENT_WORDS[kind]}/layer{layer}",
          f"more than half of the squared gradient norms of"
          f" {GRADIENT_WORDS[kind]} is future-directed (d > 0), {variant},"
          f" layer {layer}; the bound of a half is jaxlook's",
          _THREAD,
          "share",
          stats.mean_interval(future_ExL[:, layer]),
          low=math.nextafter(0.5, 1.0),
        )
      )
  return made


def _use_claims(found: AnatomyResults, unit: str) -> list[stats.Claim]:
  """Whether keys and values are more useful to later positions.

  Only in the last layer: below it, the rise at a position also contains what
  other positions lost by their own cut edges.
  """
  last = found.rises[CUT_METHODS[0]].shape[1] - 1
  made = []
  for how in CUT_METHODS:
    use = edge_usefulness(found.rises[how][:, last:])
    more_E = (use.future - use.own)[:, 0, KEYS].mean(axis=1)
    made.append(
      stats.claim(
        f"L1/useful/{how}",
        "keys and values of the last layer are more useful to later positions"
        f" than to their own (edges cut, {CUT_WORDS[how]}); the estimate is the"
        " rise of the losses at later positions minus the rise at the key's own"
        " position, mean over keys",
        _THREAD,
        unit,
        stats.mean_interval(more_E, pairing="within a seed"),
        low=_TINY,
      )
    )
  return made


def _angle_claims(
  stop: str, directions: DirectionsByStep, early: int | None, trained: str
) -> list[stats.Claim]:
  """The sign of the cosine early and late, and the size of mixed paths."""
  late = max(directions)
  cosine = {
    step: measures[f"{stop}/cos_myopic_future"]
    for step, measures in directions.items()
  }
  made = [
    stats.claim(
      f"mixed/{stop}",
      "the norm of mixed paths, which look back in one layer and stay at their"
      f" position in another, is above a tenth of the gradient's norm,"
      f" {trained}",
      _OURS,
      "norm over the vanilla norm",
      stats.mean_interval(directions[late][f"{stop}/ratio_mixed"]),
      low=0.1,
    )
  ]
  if early is None or early == late:
    return made
  rise = stats.compare(
    dict(enumerate(cosine[late])), dict(enumerate(cosine[early]))
  )
  positive = {"low": _TINY}
  for name, words, evidence, bounds in (
    (
      "early",
      f"is negative after {early} steps under {trained}",
      stats.mean_interval(cosine[early]),
      {"high": -_TINY},
    ),
    (
      "late",
      f"is positive after {late} steps under {trained}",
      stats.mean_interval(cosine[late]),
      positive,
    ),
    (
      "rise",
      f"is higher after {late} than after {early} steps under {trained}",
      rise,
      positive,
    ),
  ):
    made.append(
      stats.claim(
        f"W13/{stop}/{name}",
        f"the cosine of the myopic and the future gradient {words}",
        source_of(stop, _ANGLES),
        "cosine",
        evidence,
        **bounds,
      )
    )
  return made
