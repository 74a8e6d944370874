"""Hugging Face folders: GPT-2 and GPT-NeoX weights, read and written.

load_save          reads a folder into a decoder's parameters, and writes one
config_json        config.json of a family <-> `DecoderConfig`
tensor_names       which tensor of a checkpoint holds which weight
convert            checkpoint tensors <-> parameters, names and axes
safetensors_files  single and sharded weight files
"""

from jaxlook.models.huggingface.convert import (
  Layout,
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
  "Layout",
  "Pretrained",
  "files",
  "from_checkpoint",
  "layout_for",
  "load",
  "save",
  "to_checkpoint",
]
