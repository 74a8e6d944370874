"""Attention variants: specs, the definition, the fast path, one `attend`."""

from jaxlook.attention.attend import attend
from jaxlook.attention.spec import (
  KNOWN,
  Spec,
  layers_name,
  parse,
  parse_layers,
)

__all__ = ["KNOWN", "Spec", "attend", "layers_name", "parse", "parse_layers"]
