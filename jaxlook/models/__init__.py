"""Decoders, their shapes, and pretrained weights."""

from jaxlook.models.attention_layer import Context, Past
from jaxlook.models.config import DecoderConfig, scaled_init_std
from jaxlook.models.decoder import (
  Decoder,
  apply,
  apply_head,
  collect_context,
  init,
)
from jaxlook.models.sites import residual_site, residual_sites, site_names
from jaxlook.models.sizes import (
  LEARNING_RATES,
  SHAPES,
  Counts,
  named_shape,
  parameter_counts,
)

__all__ = [
  "Context",
  "Counts",
  "Decoder",
  "DecoderConfig",
  "LEARNING_RATES",
  "Past",
  "SHAPES",
  "apply",
  "apply_head",
  "collect_context",
  "init",
  "named_shape",
  "parameter_counts",
  "residual_site",
  "residual_sites",
  "scaled_init_std",
  "site_names",
]
