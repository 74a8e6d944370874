"""Loads and saves Hugging Face folders of the families GPT-2 and GPT-NeoX.

A folder has `config.json` and `model.safetensors`, or the shards that
`model.safetensors.index.json` lists. Neither transformers nor torch is needed.
Weights saved as a torch pickle (`pytorch_model.bin`) are not read, because
loading a pickle can run any code in it.
"""

import dataclasses
import math
import os
import re
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
from jaxlook.models.sizes import parameter_counts
from jaxlook.runs.atomic_files import TEMPORARY_SUFFIX

_CONFIG = "config.json"
_FAR = 100  # By which factor weights do not differ from their config.


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained(Layout):
  """A checkpoint's decoder.

  Attributes:
    params: parameters, a float32 tree like that of `jaxlook.models.init`, in
      NumPy.
    settings: the content of config.json.
  """

  params: Params
  settings: Settings


def load(folder: str | os.PathLike[str]) -> Pretrained:
  """Reads a pretrained decoder.

  Args:
    folder: a Hugging Face folder of the family `gpt2` or `gpt_neox`. Buffers of
      old versions and a copy of the tied embedding are ignored.

  Returns:
    The decoder. Float16 and bfloat16 weights become float32, without loss.

  Raises:
    ValueError: the folder is missing, incomplete or damaged, a weight is NaN or
      infinite, or jaxlook has no such decoder; the message names the file and
      the cause.
    OSError: a file cannot be read.
  """
  folder = Path(folder)
  if not folder.is_dir():
    raise ValueError(_no_folder(folder))
  settings = safetensors_files.read_json(folder / _CONFIG)
  with safetensors_files.naming_file(folder / _CONFIG):
    family, config = read_settings(settings)
  file, entries = safetensors_files.read_entries(folder)
  known = FAMILIES[family]
  prefixed = any(name.startswith(known.prefix) for name in entries)
  layout = Layout(config, family, known.prefix if prefixed else "")
  # Shapes are found by tracing, which absurd sizes would not end well.
  numbers = sum(math.prod(entry.shape) for entry in entries.values())
  count = parameter_counts(config).total
  if config.layers > len(entries) or count > _FAR * numbers:
    shown = str(count) if count < 10**18 else "more than 10^18"
    raise ValueError(
      f"{folder / _CONFIG} describes a decoder of {shown} parameters, but"
      f" {file} holds {numbers} numbers"
    )
  entries = {
    name: entry
    for name, entry in entries.items()
    if not known.buffers.fullmatch(name.removeprefix(layout.prefix))
  }
  expected = tensor_shapes(layout)
  head, embedding = (
    f"{known.head}.weight",
    f"{layout.prefix}{known.embedding}.weight",
  )
  copied = config.shares_embedding and head in entries
  if copied:
    expected[head] = expected[embedding]
  shapes = {name: entry.shape for name, entry in entries.items()}
  compare(shapes, expected, str(file))
  tensors = safetensors_files.read_tensors(entries)
  if copied and not np.array_equal(tensors.pop(head), tensors[embedding]):
    raise ValueError(
      f"{file}: {head} differs from {embedding}, but {_CONFIG} ties them"
    )
  params = from_checkpoint(layout, tensors)
  return Pretrained(config, family, layout.prefix, params, settings)


def _no_folder(folder: Path) -> str:
  """Says how to get a folder that is not there."""
  hub_name = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(folder))
  if folder.exists() or not hub_name:
    return f"{folder} is not a folder"
  return (
    f"{folder} is not a folder, and nothing is downloaded here; to get a model"
    " of the Hugging Face hub, call huggingface_hub.snapshot_download("
    f"{str(folder)!r}, local_dir={folder.name!r}) and give the folder"
    f" {folder.name}"
  )


def files(folder: str | os.PathLike[str]) -> list[Path]:
  """Lists the files of a folder that `load` reads.

  Args:
    folder: a folder that `load` can read.

  Returns:
    config.json, the index of the shards if there is one, and the weights.

  Raises:
    ValueError: see `load`.
    OSError: a file cannot be read.
  """
  folder = Path(folder)
  index, entries = safetensors_files.read_entries(folder)
  paths = [folder / _CONFIG, index, *(e.file for e in entries.values())]
  return list(dict.fromkeys(paths))


def save(
  folder: str | os.PathLike[str],
  config: DecoderConfig,
  params: Params,
  *,
  like: Pretrained | None = None,
  max_shard_bytes: int = 2 * 10**9,
) -> None:
  """Writes a folder that `load` and transformers can read, whole or not at all.

  Args:
    folder: the folder; it must not exist, or be empty.
    config: the decoder's shape.
    params: parameters, float32, float16 or bfloat16; written as float32.
    like: the checkpoint from which the parameters come. Its family, names and
      other settings of config.json are kept.
    max_shard_bytes: weights larger than this are split into files of at most
      this size, or of a single tensor. Writing a file needs memory for another
      copy of it.

  Raises:
    ValueError: the folder is not empty, the family has no such decoder, the
      parameters do not match it or are wider than float32, or
      `max_shard_bytes` is below 1.
    OSError: the folder cannot be written.
  """
  if max_shard_bytes < 1:
    raise ValueError(f"max_shard_bytes must be >= 1, not {max_shard_bytes}")
  # The finished folder is renamed, so a link must be resolved first.
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
        f"{name} is {tensor.dtype}, which float32 cannot represent; use"
        " float32, float16 or bfloat16"
      )
    tensors[name] = tensor.astype(np.float32, copy=False)
  settings = write_settings(config, layout.family, base)

  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = folder.with_name(
    f".{folder.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
  )
  try:
    temporary.mkdir()
    safetensors_files.write_weights(temporary, tensors, max_shard_bytes)
    safetensors_files.write_json(temporary / _CONFIG, settings)
    os.replace(temporary, folder)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise
