"""jaxlook: how much does a causal transformer do for the sake of later?"""

from jaxlook.attention import Spec, Variant, attend, parse, parse_variant
from jaxlook.errors import SettingError
from jaxlook.models import Decoder, DecoderConfig

__version__ = "0.1.0"

__all__ = [
  "Decoder",
  "DecoderConfig",
  "SettingError",
  "Spec",
  "Variant",
  "attend",
  "parse",
  "parse_variant",
]
