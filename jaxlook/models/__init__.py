"""Decoders, their shapes, and pretrained weights."""

from jaxlook.models.config import DecoderConfig
from jaxlook.models.decoder import Context
from jaxlook.models.decoder import Decoder
from jaxlook.models.decoder import collect_context
from jaxlook.models.decoder import init

__all__ = ["Context", "Decoder", "DecoderConfig", "collect_context", "init"]
