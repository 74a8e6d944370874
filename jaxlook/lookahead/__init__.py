"""Lookahead: where gradient comes from, what it buys, what states hold.

Each module is one measure; `interventions` is what the others, and notebooks,
look at and change activations with.
"""

from jaxlook.lookahead import (
  anatomy,
  dial,
  edges,
  edits,
  future_lens,
  geometry,
  influence,
  interventions,
  local_myopia,
  patching,
  placebo,
  probes,
  scaling,
  token_classes,
  token_gap,
)

__all__ = [
  "anatomy",
  "dial",
  "edges",
  "edits",
  "future_lens",
  "geometry",
  "influence",
  "interventions",
  "local_myopia",
  "patching",
  "placebo",
  "probes",
  "scaling",
  "token_classes",
  "token_gap",
]
