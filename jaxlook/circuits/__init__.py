"""Circuits: what heads and neurons of a trained decoder compute.

Weights are read as they are stored unless `fold_norms` is asked for.
"""

from jaxlook.circuits import (
  composition,
  lens,
  memories,
  memory_study,
  memory_triggers,
  memory_values,
  paths,
  qk_ov,
  skip_trigrams,
  weights,
)
from jaxlook.circuits.factored import Factored

__all__ = [
  "Factored",
  "composition",
  "lens",
  "memories",
  "memory_study",
  "memory_triggers",
  "memory_values",
  "paths",
  "qk_ov",
  "skip_trigrams",
  "weights",
]
