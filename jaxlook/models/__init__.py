"""Decoders, their shapes, and pretrained weights.

config           `DecoderConfig`: everything that determines the parameters
decoder          the decoder, with any attention variant
attention_layer  the attention of a block, with its projections
output_head      the last layer, from the final LayerNorm to the outputs
sites            names of activations that can be read and edited
sizes            shapes by name: small ones, GPT-2, Pythia
gradients        the next-token loss and its gradient
huggingface      checkpoint folders of GPT-2 and GPT-NeoX
"""

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
