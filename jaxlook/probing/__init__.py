"""Probes: what a linear map can read in hidden states."""

from jaxlook.probing import (
  linear,
  probe_models,
  probe_plans,
  targets,
)

__all__ = [
  "linear",
  "probe_models",
  "probe_plans",
  "targets",
]
