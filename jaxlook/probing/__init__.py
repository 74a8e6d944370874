"""Probes: what a linear map reads off hidden states."""

from jaxlook.probing import (
  linear,
  probe_models,
  targets,
)

__all__ = [
  "linear",
  "probe_models",
  "targets",
]
