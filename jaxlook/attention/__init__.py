"""Attention variants: specs, the definition, the fast path, one `attend`."""

from jaxlook.attention.attend import attend
from jaxlook.attention.spec import KNOWN
from jaxlook.attention.spec import Spec
from jaxlook.attention.spec import parse
from jaxlook.attention.spec import parse_layers

__all__ = ["KNOWN", "Spec", "attend", "parse", "parse_layers"]
