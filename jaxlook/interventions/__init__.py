"""Interventions: read or edit any activation of a model."""

from jaxlook.interventions import (
  attention_edges,
  edits,
  patching,
)
from jaxlook.interventions.forward import (
  TeacherContext,
  capture,
  forward_only,
  gradients_at,
  run,
)

__all__ = [
  "TeacherContext",
  "attention_edges",
  "capture",
  "edits",
  "forward_only",
  "gradients_at",
  "patching",
  "run",
]
