"""Attention variants: specs, the definition, the fast path, one `attend`."""

from jaxlook.attention.attend import attend
from jaxlook.attention.spec import KNOWN, Spec, parse
from jaxlook.attention.variant import Variant, parse_variant

__all__ = ["KNOWN", "Spec", "Variant", "attend", "parse", "parse_variant"]
