"""Lookahead: where gradient comes from, and what it buys.

Each module is one measure.
"""

from jaxlook.lookahead import (
  anatomy,
  future_lens,
  geometry,
  gradient_anatomy,
  horizon,
  influence,
  local_myopia,
  placebo,
  scaling,
  token_classes,
  token_gap,
)

__all__ = [
  "anatomy",
  "future_lens",
  "geometry",
  "gradient_anatomy",
  "horizon",
  "influence",
  "local_myopia",
  "placebo",
  "scaling",
  "token_classes",
  "token_gap",
]
