"""Lookahead: where gradient comes from, and what a model gains from it.

Each module is one measure.
"""

from jaxlook.lookahead import (
  future_lens,
  gradient_anatomy,
  gradient_by_distance,
  gradient_directions,
  horizon,
  influence,
  lens_measures,
  local_myopia,
  placebo,
  scaling,
  token_classes,
  token_gap,
)

__all__ = [
  "future_lens",
  "gradient_anatomy",
  "gradient_by_distance",
  "gradient_directions",
  "horizon",
  "influence",
  "lens_measures",
  "local_myopia",
  "placebo",
  "scaling",
  "token_classes",
  "token_gap",
]
