"""Circuits: what heads and neurons of a trained decoder compute.

Weights are read as they are stored unless `fold_norms` is asked for.
"""

from jaxlook.circuits import (
  composition,
  inside,
  lens,
  microscope,
  page,
  qk_ov,
  weights,
)
from jaxlook.circuits.factored import Factored

__all__ = [
  "Factored",
  "composition",
  "inside",
  "lens",
  "microscope",
  "page",
  "qk_ov",
  "weights",
]
