"""jaxlook: how much does a causal transformer do for the sake of later?"""

from jaxlook.attention import Spec
from jaxlook.attention import attend
from jaxlook.attention import parse
from jaxlook.models import Decoder
from jaxlook.models import DecoderConfig

__version__ = "0.1.0"

__all__ = ["Decoder", "DecoderConfig", "Spec", "attend", "parse"]
