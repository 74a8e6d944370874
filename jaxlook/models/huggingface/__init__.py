"""Hugging Face folders: GPT-2 and GPT-NeoX weights, read and written."""

from jaxlook.models.huggingface.load_save import (
  Pretrained,
  files,
  load,
  save,
)

__all__ = [
  "Pretrained",
  "files",
  "load",
  "save",
]
