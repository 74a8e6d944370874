"""What a checkpoint's config.json says, as a `DecoderConfig` and back.

Only what changes the function or its parameters is read; an option that
jaxlook's decoder does not have is refused rather than ignored. Dropout is
ignored, as the decoder has none.
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
    sizes: fields of `DecoderConfig` to theirs; whole numbers, always there.
    mlp_width: their field; null or absent means 4 * width.
    activation: their field and what it is when absent.
    norm_epsilon: their field.
    tied_head: what `tie_word_embeddings` is when absent.
    positions: the family's.
    only: options that must have the one value given, if they are there.
    fresh: what a decoder says that comes from no checkpoint: it has no dropout
      and no tokens that begin or end a text.
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

# transformers' names; the first three are one function in other arithmetic.
_ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
  {
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
  }
)

# Where a rotary setting may stand: in `rope_parameters` (new), at the top under
# NeoX's own name (old) or under the common name; and what it is when absent.
_ROTARY = MappingProxyType(
  {
    "rotary_fraction": ("partial_rotary_factor", "rotary_pct", 0.25),
    "rotary_base": ("rope_theta", "rotary_emb_base", 10_000.0),
  }
)


def check_shape(config: DecoderConfig, family: str) -> None:
  """Refuses a decoder that the family does not have.

  Args:
    config: the decoder's shape.
    family: `gpt2` or `gpt_neox`.

  Raises:
    ValueError: the family is unknown or has no such decoder; the message names
      the field.
  """
  if family not in FAMILIES:
    raise ValueError(
      f"unknown family {family!r}; known are {', '.join(FAMILIES)}"
    )
  for field, right, wanted in (
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
        f"{field} must be {wanted} in a checkpoint of the family {family}, not"
        f" {getattr(config, field)!r}"
      )


def read_settings(settings: Settings) -> tuple[str, DecoderConfig]:
  """Reads a config.json.

  Args:
    settings: its content.

  Returns:
    The family, and the decoder's shape. `mlp_width` is None where it is 4 times
    the width.

  Raises:
    ValueError: the family is unknown, a field is missing or out of range, or an
      option asks for what the decoder does not have.
  """
  family = settings.get("model_type")
  if not isinstance(family, str) or family not in FAMILIES:
    raise ValueError(
      f"unknown model_type {family!r}; known are {', '.join(FAMILIES)}"
    )
  fields = _FIELDS[family]
  for option, value in fields.only.items():
    if option in settings and settings[option] != value:
      raise ValueError(
        f"unsupported {option}={settings[option]!r}; only {value!r} is"
      )
  sizes = {ours: _size(settings, name) for ours, name in fields.sizes.items()}
  mlp_width = None
  if settings.get(fields.mlp_width) is not None:
    mlp_width = _size(settings, fields.mlp_width)
  name, default = fields.activation
  activation = settings.get(name, default)
  if not isinstance(activation, str) or activation not in _ACTIVATIONS:
    raise ValueError(
      f"unsupported {name}={activation!r}; known are {', '.join(_ACTIVATIONS)}"
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
  """Writes a config.json that `read_settings` and transformers read.

  Args:
    config: the decoder's shape.
    family: `gpt2` or `gpt_neox`.
    base: settings to keep where they do not contradict the decoder's shape,
      such as the tokens that begin and end a text; empty for a decoder that
      comes from no checkpoint.

  Returns:
    The content of config.json.

  Raises:
    ValueError: as `check_shape`.
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
      # Both spellings: transformers before 5 reads the first two only.
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
    # Otherwise transformers would cast the weights to what they once were.
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
        f"unsupported {name}={value!r}; only rope_type 'default' is"
      )
    nested |= value
  result = {}
  for ours, (common, own, default) in _ROTARY.items():
    given = {
      name: _number(source, name, default)
      for source, name in (
        (nested, common),
        (settings, own),
        (settings, common),
      )
      if name in source
    }
    if len(set(given.values())) > 1:
      raise ValueError(f"contradictory rotary settings {given}")
    result[ours] = next(iter(given.values()), default)
  return result


def _size(settings: Settings, name: str) -> int:
  value = settings.get(name)
  # Not isinstance, which takes true for 1.
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
