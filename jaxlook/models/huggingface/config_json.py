"""Converts a checkpoint's config.json to a `DecoderConfig` and back.

Only options that change the function or its parameters are read. An option that
jaxlook's decoder does not have is an error. Dropout is ignored, because the
decoder has none.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxlook.models.config import Activation, DecoderConfig, Positions
from jaxlook.models.huggingface.tensor_names import FAMILIES

Settings = Mapping[str, Any]


class _Fields(NamedTuple):
  """The fields of one family's config.json.

  Attributes:
    sizes: names of the required whole numbers, by field of `DecoderConfig`.
    mlp_width: name of the MLP's width; null or absent means 4 * width.
    activation: name of the activation, and its default.
    norm_epsilon: name of LayerNorm's epsilon.
    tied_head: the default of `tie_word_embeddings`.
    positions: the family's position encoding.
    only: options that, if present, must have the given value.
    fresh: options for a decoder that does not come from a checkpoint: no
      dropout, and no tokens that begin or end a text.
  """

  sizes: Mapping[str, str]
  mlp_width: str
  activation: tuple[str, str]
  norm_epsilon: str
  tied_head: bool
  positions: Positions
  only: Mapping[str, Any]
  fresh: Mapping[str, Any]


_FIELDS = MappingProxyType(
  {
    "gpt2": _Fields(
      sizes={
        "layers": "n_layer",
        "width": "n_embd",
        "heads": "n_head",
        "max_length": "n_positions",
        "vocab_size": "vocab_size",
      },
      mlp_width="n_inner",
      activation=("activation_function", "gelu_new"),
      norm_epsilon="layer_norm_epsilon",
      tied_head=True,
      positions="learned",
      only={
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
        "pruned_heads": {},
      },
      fresh={
        "bos_token_id": None,
        "eos_token_id": None,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
      },
    ),
    "gpt_neox": _Fields(
      sizes={
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "max_length": "max_position_embeddings",
        "vocab_size": "vocab_size",
      },
      mlp_width="intermediate_size",
      activation=("hidden_act", "gelu"),
      norm_epsilon="layer_norm_eps",
      tied_head=False,
      positions="rotary",
      only={"attention_bias": True, "pruned_heads": {}},
      fresh={"bos_token_id": None, "eos_token_id": None},
    ),
  }
)

# transformers' names; the first three are the same function.
_ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
  {
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
  }
)

# The names of a rotary setting: in `rope_parameters` or at the top level (new),
# at the top level under NeoX's name (old); and its default.
_ROTARY = MappingProxyType(
  {
    "rotary_fraction": ("partial_rotary_factor", "rotary_pct", 0.25),
    "rotary_base": ("rope_theta", "rotary_emb_base", 10_000.0),
  }
)


def check_shape(config: DecoderConfig, family: str) -> None:
  """Raises an error if the family has no such decoder.

  Args:
    config: the decoder's shape.
    family: `gpt2` or `gpt_neox`.

  Raises:
    ValueError: the family is unknown or has no such decoder.
  """
  if family not in FAMILIES:
    raise ValueError(
      f"unknown family {family!r}; use one of {', '.join(FAMILIES)}"
    )
  for field, right, expected in (
    ("vocab_size", config.vocab_size is not None, "a number of tokens"),
    ("output_features", config.output_features is None, "None"),
    ("mlp_width", config.hidden_width > 0, "at least 1"),
    (
      "positions",
      config.positions == _FIELDS[family].positions,
      repr(_FIELDS[family].positions),
    ),
    (
      "parallel_residual",
      not config.parallel_residual or family == "gpt_neox",
      "False",
    ),
  ):
    if not right:
      raise ValueError(
        f"{field} must be {expected} in a checkpoint of the family {family},"
        f" not {getattr(config, field)!r}"
      )


def read_settings(settings: Settings) -> tuple[str, DecoderConfig]:
  """Reads a config.json.

  Args:
    settings: the content of config.json.

  Returns:
    The family, and the decoder's shape; its `mlp_width` is None if it is 4
    times the width.

  Raises:
    ValueError: the family is unknown, a field is missing or out of range, or
      the decoder does not support an option.
  """
  family = settings.get("model_type")
  if not isinstance(family, str) or family not in FAMILIES:
    raise ValueError(
      f"unknown model_type {family!r}; use one of {', '.join(FAMILIES)}"
    )
  fields = _FIELDS[family]
  for option, value in fields.only.items():
    if option in settings and settings[option] != value:
      raise ValueError(
        f"unsupported {option}={settings[option]!r}; must be {value!r}"
      )
  sizes = {ours: _size(settings, name) for ours, name in fields.sizes.items()}
  mlp_width = None
  if settings.get(fields.mlp_width) is not None:
    mlp_width = _size(settings, fields.mlp_width)
  name, default = fields.activation
  activation = settings.get(name, default)
  if not isinstance(activation, str) or activation not in _ACTIVATIONS:
    raise ValueError(
      f"unsupported {name}={activation!r}; use one of {', '.join(_ACTIVATIONS)}"
    )
  own = {}
  if family == "gpt_neox":
    own = {
      "parallel_residual": _switch(settings, "use_parallel_residual", True),
      **_read_rotary(settings),
    }
  return family, DecoderConfig(
    **sizes,
    **own,
    mlp_width=None if mlp_width == 4 * sizes["width"] else mlp_width,
    activation=_ACTIVATIONS[activation],
    positions=fields.positions,
    tied_head=_switch(settings, "tie_word_embeddings", fields.tied_head),
    norm_epsilon=_number(settings, fields.norm_epsilon, 1e-5),
    init_std=_number(settings, "initializer_range", 0.02),
  )


def write_settings(
  config: DecoderConfig, family: str, base: Settings
) -> dict[str, Any]:
  """Makes a config.json that `read_settings` and transformers can read.

  Args:
    config: the decoder's shape.
    family: `gpt2` or `gpt_neox`.
    base: settings to keep if they do not contradict the decoder's shape, such
      as the tokens that begin and end a text; empty for a decoder that does
      not come from a checkpoint.

  Returns:
    The content of config.json.

  Raises:
    ValueError: see `check_shape`.
  """
  check_shape(config, family)
  fields = _FIELDS[family]
  stale = ("rope_scaling", "rope_theta", "partial_rotary_factor", "n_ctx")
  settings = {k: v for k, v in base.items() if k not in stale}
  settings = settings or dict(fields.fresh)
  mlp_width = config.mlp_width
  if family == "gpt_neox":
    mlp_width = config.hidden_width
    settings |= {
      "use_parallel_residual": config.parallel_residual,
      # Both forms, because transformers before 5 reads only the first two.
      "rotary_pct": config.rotary_fraction,
      "rotary_emb_base": config.rotary_base,
      "rope_parameters": {
        "rope_type": "default",
        "rope_theta": config.rotary_base,
        "partial_rotary_factor": config.rotary_fraction,
      },
    }
  name, _ = fields.activation
  if _ACTIVATIONS.get(settings.get(name, "")) != config.activation:
    settings[name] = next(
      theirs
      for theirs, ours in _ACTIVATIONS.items()
      if ours == config.activation
    )
  return settings | {
    "model_type": family,
    "architectures": [FAMILIES[family].architecture],
    # Without these, transformers would cast weights to their original dtype.
    "dtype": "float32",
    "torch_dtype": "float32",
    **{theirs: getattr(config, ours) for ours, theirs in fields.sizes.items()},
    **fields.only,
    fields.mlp_width: mlp_width,
    fields.norm_epsilon: config.norm_epsilon,
    "initializer_range": config.init_std,
    "tie_word_embeddings": config.tied_head,
  }


def _read_rotary(settings: Settings) -> dict[str, float]:
  nested = {}
  known = {"rope_type", "type", *(common for common, *_ in _ROTARY.values())}
  for name in ("rope_scaling", "rope_parameters"):
    value = settings.get(name) or {}
    if (
      not isinstance(value, dict)
      or not known.issuperset(value)
      or value.get("rope_type", value.get("type", "default")) != "default"
    ):
      raise ValueError(
        f"unsupported {name}={value!r}; rope_type must be 'default'"
      )
    nested |= value
  result = {}
  for ours, (common, own, default) in _ROTARY.items():
    values = {
      name: _number(source, name, default)
      for source, name in (
        (nested, common),
        (settings, own),
        (settings, common),
      )
      if name in source
    }
    if len(set(values.values())) > 1:
      raise ValueError(
        f"contradictory rotary settings {values}; they must be equal"
      )
    result[ours] = next(iter(values.values()), default)
  return result


def _size(settings: Settings, name: str) -> int:
  value = settings.get(name)
  # isinstance would accept true as 1.
  if type(value) is not int or value < 1:
    raise ValueError(f"{name} must be a whole number >= 1, not {value!r}")
  return value


def _number(settings: Settings, name: str, default: float) -> float:
  value = settings.get(name, default)
  if type(value) not in (int, float) or not 0.0 < value < math.inf:
    raise ValueError(f"{name} must be a finite number > 0, not {value!r}")
  return float(value)


def _switch(settings: Settings, name: str, default: bool) -> bool:
  value = settings.get(name, default)
  if not isinstance(value, bool):
    raise ValueError(f"{name} must be true or false, not {value!r}")
  return value
