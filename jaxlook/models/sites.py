"""Sites: names of the activations of a decoder that can be read and edited.

| site | shape | what it is |
| --- | --- | --- |
| `block_L/residual` | [B, T, D] | the stream into block L, x_L |
| `block_L/attention/input` | [B, T, D] | LayerNorm(x_L), attention's input |
| `block_L/attention/query` | [B, T, N, H] | W_Q input, rotated if rotary |
| `block_L/attention/key` | [B, S, N, H] | W_K input, rotated if rotary |
| `block_L/attention/value` | [B, S, N, H] | W_V input |
| `block_L/attention/pattern` | [B, N, T, S] | softmax of the scores |
| `block_L/attention/head` | [B, T, N, H] | pattern times values, z |
| `block_L/mlp/neuron` | [B, T, F] | after the nonlinearity |
| `residual` | [B, T, D] | the stream after the last block |

The symbols are those of Elhage et al. (2021), "A mathematical framework for
transformer circuits". Patterns exist under `implementation="reference"` only.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict

from jaxlook.models.config import DecoderConfig

Edit = Callable[[jax.Array], jax.Array]
Edits = Mapping[str, Edit]
NO_EDITS: Edits = MappingProxyType({})

# Sown names and submodules share a scope, and `query` would be both.
_MARK = "at:"
_ATTENTION_SITES = ("input", "query", "key", "value", "pattern", "head")


def site_names(config: DecoderConfig) -> tuple[str, ...]:
  """Lists the sites of a decoder, in the order they are computed.

  Args:
    config: the decoder's shape.

  Returns:
    Site names; see the module's docstring.
  """
  names = []
  for layer in range(config.layers):
    block = f"block_{layer}"
    names.append(f"{block}/residual")
    names += [f"{block}/attention/{name}" for name in _ATTENTION_SITES]
    if config.hidden_width:
      names.append(f"{block}/mlp/neuron")
  return (*names, "residual")


def residual_site(config: DecoderConfig, layer: int) -> str:
  """Names the residual stream before block `layer`, or after the last block.

  Args:
    config: the decoder's shape.
    layer: 0 .. `layers`; `layers` means after the last block.

  Returns:
    The site's name.

  Raises:
    ValueError: the layer is out of range.
  """
  if not 0 <= layer <= config.layers:
    raise ValueError(f"layer must lie in 0..{config.layers}, not {layer}")
  return "residual" if layer == config.layers else f"block_{layer}/residual"


def residual_sites(config: DecoderConfig) -> tuple[str, ...]:
  """Names the residual stream before each block and after the last one."""
  return tuple(
    residual_site(config, layer) for layer in range(config.layers + 1)
  )


def check_sites(
  config: DecoderConfig, names: Iterable[str], *, patterns: bool = True
) -> None:
  """Raises an error for an unknown site, so that no edit is silently ignored.

  Args:
    config: the decoder's shape.
    names: sites to read or edit.
    patterns: whether attention patterns are computed.

  Raises:
    ValueError: the decoder has no such site (the message lists all sites), or a
      pattern is needed but not computed.
  """
  known = site_names(config)
  for name in names:
    if name not in known:
      raise ValueError(
        f"there is no site {name!r}; use one of {', '.join(known)}"
      )
    if name.endswith("/pattern") and not patterns:
      raise ValueError(f"the site {name!r} needs implementation='reference'")


def tap(module: nn.Module, edits: Edits, name: str, x: jax.Array) -> jax.Array:
  """Applies an edit to an activation, and sows the result.

  Args:
    module: the module that computes the activation; its path begins the site.
    edits: functions by site.
    name: the end of the site's name.
    x: the activation.

  Returns:
    The edited activation; `x` if there is no edit.

  Raises:
    ValueError: an edit returned another shape or dtype.
  """
  site = "/".join((*module.path, name))
  if site in edits:
    edited = edits[site](x)
    if edited.shape != x.shape or edited.dtype != x.dtype:
      raise ValueError(
        f"the edit of {site} must keep {x.dtype}{list(x.shape)}, not return"
        f" {edited.dtype}{list(edited.shape)}"
      )
    x = edited
  module.sow("intermediates", _MARK + name, x)
  return x


def sown(intermediates: Mapping[str, Any]) -> dict[str, jax.Array]:
  """Returns the activations in the collection `intermediates`, by site.

  Args:
    intermediates: the collection that `Decoder.apply(..., mutable=...)`
      returns.
  """
  flat: Any = flatten_dict(dict(intermediates), sep="/")
  return {site.replace(_MARK, ""): values[0] for site, values in flat.items()}
