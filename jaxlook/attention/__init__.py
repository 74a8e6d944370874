"""Attention variants: specs, the definition, the fast path, one `attend`."""

from jaxlook.attention.attend import attend
from jaxlook.attention.spec import KNOWN, Spec, parse, parse_layers

__all__ = ["KNOWN", "Spec", "attend", "parse", "parse_layers"]
