"""Pretrained weights: Hugging Face folders of the families GPT-2 and GPT-NeoX.

A folder holds `config.json` and `model.safetensors`, or the shards that
`model.safetensors.index.json` lists. Reading needs neither transformers nor
torch. Weights saved as a torch pickle (`pytorch_model.bin`) are not read, since
loading a pickle runs what is in it.
"""

import dataclasses
import os
import secrets
import shutil
from pathlib import Path

import numpy as np

from jaxlook.models.config import DecoderConfig
from jaxlook.models.decoder import Params
from jaxlook.models.huggingface import safetensors_files
from jaxlook.models.huggingface.config_json import (
  Settings,
  read_settings,
  write_settings,
)
from jaxlook.models.huggingface.convert import (
  Layout,
  compare,
  from_checkpoint,
  layout_for,
  tensor_shapes,
  to_checkpoint,
)
from jaxlook.models.huggingface.tensor_names import FAMILIES
from jaxlook.runs.atomic_files import TEMPORARY_SUFFIX

_CONFIG = "config.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained(Layout):
  """A checkpoint's decoder.

  Attributes:
    params: its parameters, the float32 tree of `jaxlook.models.init` in NumPy.
    settings: what its config.json says.
  """

  params: Params
  settings: Settings


def load(folder: str | os.PathLike[str]) -> Pretrained:
  """Reads a pretrained decoder.

  Args:
    folder: a Hugging Face folder of the family `gpt2` or `gpt_neox`. The
      buffers of old versions and a copy of the tied embedding are ignored.

  Returns:
    The decoder. Weights of float16 and bfloat16 become float32, without loss.

  Raises:
    ValueError: it is no such folder, or incomplete, damaged or of a decoder
      that jaxlook does not have; the message names the file and the cause.
    OSError: a file cannot be read.
  """
  folder = Path(folder)
  if not folder.is_dir():
    raise ValueError(f"{folder} is not a folder")
  settings = safetensors_files.read_json(folder / _CONFIG)
  with safetensors_files.blaming(folder / _CONFIG):
    family, config = read_settings(settings)
  file, entries = safetensors_files.read_entries(folder)
  known = FAMILIES[family]
  prefixed = any(name.startswith(known.prefix) for name in entries)
  layout = Layout(config, family, known.prefix if prefixed else "")
  entries = {
    name: entry
    for name, entry in entries.items()
    if not known.buffers.fullmatch(name.removeprefix(layout.prefix))
  }
  wanted = tensor_shapes(layout)
  head, embedding = (
    f"{known.head}.weight",
    f"{layout.prefix}{known.embedding}.weight",
  )
  copied = config.shares_embedding and head in entries
  if copied:
    wanted[head] = wanted[embedding]
  shapes = {name: entry.shape for name, entry in entries.items()}
  compare(shapes, wanted, str(file))
  tensors = safetensors_files.read_tensors(entries)
  if copied and not np.array_equal(tensors.pop(head), tensors[embedding]):
    raise ValueError(
      f"{file}: {head} differs from {embedding}, although {_CONFIG} ties them"
    )
  params = from_checkpoint(layout, tensors)
  return Pretrained(config, family, layout.prefix, params, settings)


def files(folder: str | os.PathLike[str]) -> list[Path]:
  """The files of a folder that `load` reads.

  Args:
    folder: one that `load` reads.

  Returns:
    config.json, the index of the shards if there is one, and the weights.

  Raises:
    ValueError: as `load`.
    OSError: a file cannot be read.
  """
  folder = Path(folder)
  named, entries = safetensors_files.read_entries(folder)
  found = [folder / _CONFIG, named, *(e.file for e in entries.values())]
  return list(dict.fromkeys(found))


def save(
  folder: str | os.PathLike[str],
  config: DecoderConfig,
  params: Params,
  *,
  like: Pretrained | None = None,
  max_shard_bytes: int = 2 * 10**9,
) -> None:
  """Writes a folder that `load` and transformers read, whole or not at all.

  Args:
    folder: where; it must not exist or be an empty folder.
    config: the decoder's shape.
    params: its parameters, float32, float16 or bfloat16; written as float32.
    like: the checkpoint that they come from. Its family and names are kept, and
      what its config.json says besides the shape.
    max_shard_bytes: weights of more bytes than this are split into files of at
      most so many, or of one tensor. A file's bytes are held in memory once
      more while it is written.

  Raises:
    ValueError: the folder exists with content, the family has no such decoder
      (the message names the field), the parameters do not fit it or lose digits
      in float32, or `max_shard_bytes` is below 1.
    OSError: the folder cannot be written.
  """
  if max_shard_bytes < 1:
    raise ValueError(f"max_shard_bytes must be >= 1, not {max_shard_bytes}")
  # Behind a link is where the finished folder must be renamed to.
  folder = Path(folder).resolve()
  if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
    raise ValueError(f"{folder} exists and is not an empty folder")
  if like is None:
    layout, base = layout_for(config), {}
  else:
    layout, base = Layout(config, like.family, like.prefix), like.settings
  tensors = to_checkpoint(layout, params)
  for name, tensor in tensors.items():
    if tensor.dtype not in safetensors_files.DTYPES.values():
      raise ValueError(
        f"{name} is {tensor.dtype}, of which float32 would lose digits"
      )
    tensors[name] = tensor.astype(np.float32, copy=False)
  settings = write_settings(config, layout.family, base)

  folder.parent.mkdir(parents=True, exist_ok=True)
  aside = folder.with_name(
    f".{folder.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
  )
  try:
    aside.mkdir()
    safetensors_files.write_weights(aside, tensors, max_shard_bytes)
    safetensors_files.write_json(aside / _CONFIG, settings)
    os.replace(aside, folder)
  except BaseException:
    shutil.rmtree(aside, ignore_errors=True)
    raise
