"""Hugging Face folders: GPT-2 and GPT-NeoX weights, read and written."""

from jaxlook.models.huggingface.convert import (
  from_checkpoint,
  layout_for,
  to_checkpoint,
)
from jaxlook.models.huggingface.load_save import (
  Pretrained,
  files,
  load,
  save,
)

__all__ = [
  "Pretrained",
  "files",
  "from_checkpoint",
  "layout_for",
  "load",
  "save",
  "to_checkpoint",
]
