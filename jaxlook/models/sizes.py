"""Shapes by name: small ones for two cores, GPT-2 and Pythia.

A small shape is named after the number of parameters of its blocks. Most have
four layers, and each has twice the width of the one before, so four times its
parameters. The others equal the published config.json files (including
`initializer_range`): GPT-2 (Radford et al. 2019) and Pythia (Biderman et al.
2023, arXiv 2304.01373, table 1; the 14M and 31M models came later).
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from jaxlook.errors import SettingError
from jaxlook.models.config import DecoderConfig, scaled_init_std


def _small(layers: int, width: int, heads: int) -> DecoderConfig:
  return DecoderConfig(
    layers=layers,
    width=width,
    heads=heads,
    max_length=64,
    vocab_size=256,
    init_std=scaled_init_std(width),
  )


def _gpt2(layers: int, width: int, heads: int) -> DecoderConfig:
  return DecoderConfig(
    layers=layers,
    width=width,
    heads=heads,
    max_length=1024,
    vocab_size=50_257,
  )


def _pythia(layers: int, width: int, heads: int) -> DecoderConfig:
  return DecoderConfig(
    layers=layers,
    width=width,
    heads=heads,
    max_length=2048,
    vocab_size=50_304,
    activation="gelu",
    positions="rotary",
    rotary_fraction=0.25,
    parallel_residual=True,
    tied_head=False,
  )


SHAPES: Mapping[str, DecoderConfig] = MappingProxyType(
  {
    # One layer, for smoke runs.
    "0.9k": _small(1, 8, 2),
    "3.3k": _small(1, 16, 2),
    "13k": _small(4, 16, 2),
    "51k": _small(4, 32, 2),
    "0.2M": _small(4, 64, 4),
    "0.8M": _small(4, 128, 4),
    "3M": _small(4, 256, 8),
    "11M": _small(6, 384, 6),
    "gpt2": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "pythia-14m": _pythia(6, 128, 4),
    "pythia-31m": _pythia(6, 256, 8),
    "pythia-70m": _pythia(6, 512, 8),
    "pythia-160m": _pythia(12, 768, 12),
    "pythia-410m": _pythia(24, 1024, 16),
    "pythia-1b": _pythia(16, 2048, 8),
    "pythia-1.4b": _pythia(24, 2048, 16),
    "pythia-2.8b": _pythia(32, 2560, 32),
  }
)


def named_shape(
  name: str, *, vocab_size: int | None = None, max_length: int | None = None
) -> DecoderConfig:
  """Returns the shape of a name.

  Args:
    name: one of `SHAPES`.
    vocab_size: the tokenizer's vocabulary; by default the published one, and
      256 for the small shapes.
    max_length: the longest sequence; the published one by default.

  Returns:
    The shape.

  Raises:
    SettingError: there is no shape of that name, or a size is out of range.
  """
  if name not in SHAPES:
    raise SettingError(
      "model_size", f"must be one of {', '.join(SHAPES)}, not {name!r}"
    )
  given = {"vocab_size": vocab_size, "max_length": max_length}
  given = {field: size for field, size in given.items() if size is not None}
  return dataclasses.replace(SHAPES[name], **given)


LEARNING_RATES: Mapping[str, float] = MappingProxyType(
  {
    "pythia-14m": 1e-3,
    "pythia-31m": 1e-3,
    "pythia-70m": 1e-3,
    "pythia-160m": 6e-4,
    "pythia-410m": 3e-4,
    "pythia-1b": 3e-4,
    "pythia-1.4b": 2e-4,
    "pythia-2.8b": 1.6e-4,
  }
)
"""Peak learning rates of Pythia's pretraining, from the model cards."""


class Counts(NamedTuple):
  """Numbers of parameters of a shape.

  Attributes:
    total: all parameters.
    non_embedding: without token and position embeddings and without the head;
      sizes are compared by this number (Kaplan et al. 2020, arXiv 2001.08361,
      section 2.1). Biases and LayerNorms are included, as in Pythia.
  """

  total: int
  non_embedding: int


def parameter_counts(config: DecoderConfig) -> Counts:
  """Counts a shape's parameters, without tracing it: shapes may be absurd.

  Args:
    config: the shape.

  Returns:
    The counts.
  """
  width, hidden = config.width, config.hidden_width
  norm, outputs = 2 * width, config.output_features
  block = norm + 4 * (width + 1) * width
  if hidden:
    block += norm + (width + 1) * hidden + (hidden + 1) * width
  non_embedding = config.layers * block + norm
  # Only continuous inputs and outputs have a bias.
  tokens = config.vocab_size
  total = non_embedding + width * (
    (config.input_features or 0) + 1 if tokens is None else tokens
  )
  if config.positions == "learned":
    total += config.max_length * width
  if outputs is not None:
    total += (width + 1) * outputs
  elif not config.shares_embedding:
    total += width * (tokens or 0)
  return Counts(total, non_embedding)
