"""Decoders, their shapes, and pretrained weights."""

from jaxlook.models.config import DecoderConfig, scaled_init_std
from jaxlook.models.decoder import (
  Decoder,
  apply,
  apply_head,
  collect_context,
  init,
)
from jaxlook.models.heads import Context, Past
from jaxlook.models.sites import residual_site, residual_sites, site_names

__all__ = [
  "Context",
  "Decoder",
  "DecoderConfig",
  "Past",
  "apply",
  "apply_head",
  "collect_context",
  "init",
  "residual_site",
  "residual_sites",
  "scaled_init_std",
  "site_names",
]
