"""Lookahead: where gradient comes from, and what it buys.

Each module is one measure.
"""

from jaxlook.lookahead import (
  anatomy,
  dial,
  future_lens,
  geometry,
  influence,
  local_myopia,
  placebo,
  scaling,
  token_classes,
  token_gap,
)

__all__ = [
  "anatomy",
  "dial",
  "future_lens",
  "geometry",
  "influence",
  "local_myopia",
  "placebo",
  "scaling",
  "token_classes",
  "token_gap",
]
