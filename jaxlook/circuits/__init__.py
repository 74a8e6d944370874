"""Circuits: what heads and neurons of a trained decoder compute.

Functions read the weights as they are stored, unless `fold_norms` is set.
"""

from jaxlook.circuits import (
  behaviour,
  composition,
  induction_heads,
  inside,
  lens,
  memories,
  memory_study,
  memory_triggers,
  memory_values,
  microscope,
  page,
  paths,
  qk_ov,
  skip_trigrams,
  weights,
)
from jaxlook.circuits.factored import Factored

__all__ = [
  "Factored",
  "behaviour",
  "composition",
  "induction_heads",
  "inside",
  "lens",
  "memories",
  "memory_study",
  "memory_triggers",
  "memory_values",
  "microscope",
  "page",
  "paths",
  "qk_ov",
  "skip_trigrams",
  "weights",
]
