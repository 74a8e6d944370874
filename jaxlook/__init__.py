"""jaxlook: how much does a causal transformer do for the sake of later?"""

from jaxlook.attention import Spec, attend, parse
from jaxlook.models import Decoder, DecoderConfig

__version__ = "0.1.0"

__all__ = ["Decoder", "DecoderConfig", "Spec", "attend", "parse"]
