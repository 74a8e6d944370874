"""The files of a checkpoint folder: JSON, safetensors, shards with an index.

This module reads and writes tensors by name; it does not interpret the names.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jaxlook import git_lfs
from jaxlook.runs import json_files
from jaxlook.runs.atomic_files import write_bytes

_MODEL = "model.safetensors"
_INDEX = "model.safetensors.index.json"

# Dtypes that float32 represents without loss. Importing jax adds bfloat16 to
# NumPy.
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}


class Entry(NamedTuple):
  """A tensor's file, shape and dtype, from the file's header."""

  file: Path
  shape: tuple[int, ...]
  dtype: str


@contextlib.contextmanager
def naming_file(file: Path) -> Iterator[None]:
  """Adds a file's name to errors about its content.

  Args:
    file: the file.

  Yields:
    Nothing.

  Raises:
    ValueError: the body raises ValueError or SafetensorError.
  """
  try:
    yield
  except (ValueError, safetensors.SafetensorError) as error:
    raise ValueError(f"{file}: {' '.join(str(error).split())}") from error


def read_json(file: Path) -> dict[str, Any]:
  """Reads a JSON object.

  Args:
    file: the file.

  Returns:
    Its content.

  Raises:
    ValueError: the file is missing, or not a JSON object.
  """
  if not file.is_file():
    raise ValueError(f"{file} is missing")
  git_lfs.check_fetched(file)
  with naming_file(file):
    value = json_files.read_json(file)
    if not isinstance(value, dict):
      raise ValueError(f"must be a JSON object, not {type(value).__name__}")
  return value


def read_entries(folder: Path) -> tuple[Path, dict[str, Entry]]:
  """Lists a folder's tensors, without reading the weights.

  Args:
    folder: a checkpoint's folder.

  Returns:
    The file that lists all tensors (the weights, or the index of the shards),
    and the entry of each tensor.

  Raises:
    ValueError: a file is missing or damaged, or lacks a tensor that the index
      lists.
  """
  if (folder / _MODEL).is_file():
    return folder / _MODEL, _read_header(folder / _MODEL)
  if (folder / _INDEX).is_file():
    return folder / _INDEX, _read_index(folder / _INDEX)
  raise ValueError(f"{folder} has neither {_MODEL} nor {_INDEX}")


def _read_header(file: Path) -> dict[str, Entry]:
  git_lfs.check_fetched(file)
  with (
    naming_file(file),
    safetensors.safe_open(file, framework="np") as content,
  ):
    slices = {name: content.get_slice(name) for name in content.keys()}
    entries = {
      name: Entry(file, tuple(part.get_shape()), part.get_dtype())
      for name, part in slices.items()
    }
  return entries


def _read_index(index: Path) -> dict[str, Entry]:
  shards = read_json(index).get("weight_map")
  if not isinstance(shards, dict):
    raise ValueError(f"{index} has no weight_map")
  headers = {}
  entries = {}
  for name, shard in shards.items():
    # An index must not point outside its folder.
    if not isinstance(shard, str) or Path(shard).name != shard:
      raise ValueError(f"{index}: {shard!r} is not a file's name")
    if shard not in headers:
      if not (index.parent / shard).is_file():
        raise ValueError(f"{index.parent / shard} is missing")
      headers[shard] = _read_header(index.parent / shard)
    if name not in headers[shard]:
      raise ValueError(f"{index.parent / shard} lacks {name}")
    entries[name] = headers[shard][name]
  return entries


def read_tensors(entries: Mapping[str, Entry]) -> dict[str, np.ndarray]:
  """Reads tensors as float32.

  Args:
    entries: the tensors' entries, by name.

  Returns:
    The tensors, by name.

  Raises:
    ValueError: float32 cannot represent a tensor's dtype without loss, or a
      tensor holds NaN or infinity.
  """
  tensors = {}
  for file in dict.fromkeys(entry.file for entry in entries.values()):
    with (
      naming_file(file),
      safetensors.safe_open(file, framework="np") as content,
    ):
      for name, entry in entries.items():
        if entry.file != file:
          continue
        if entry.dtype not in DTYPES:
          raise ValueError(
            f"{name} is {entry.dtype}; must be one of {', '.join(DTYPES)}"
          )
        tensor = content.get_tensor(name).astype(np.float32)
        if bad := tensor.size - np.count_nonzero(np.isfinite(tensor)):
          raise ValueError(
            f"{name} has {bad} of {tensor.size} numbers that are NaN or"
            " infinite"
          )
        tensors[name] = tensor
  return tensors


def write_json(file: Path, value: Mapping[str, Any]) -> None:
  """Writes a JSON object.

  Args:
    file: the file, replaced if it exists.
    value: the object.

  Raises:
    OSError: the file cannot be written.
  """
  write_bytes(file, f"{json.dumps(value, indent=2)}\n".encode())


def write_tensors(
  file: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
  """Writes a safetensors file, whole or not at all.

  Args:
    file: the file, replaced if it exists.
    tensors: the tensors, by name.
    metadata: other entries of the header.

  Raises:
    OSError: the file cannot be written.
  """
  # safetensors writes memory as it is, so arrays must be row-major.
  ordered = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
  write_bytes(file, safetensors.numpy.save(ordered, metadata=dict(metadata)))


def write_weights(
  folder: Path, tensors: Mapping[str, np.ndarray], max_shard_bytes: int
) -> None:
  """Writes tensors into one file, or into shards and their index.

  Args:
    folder: the folder to write to.
    tensors: the tensors, by name.
    max_shard_bytes: most bytes of tensors per file; a larger tensor gets its
      own file.

  Raises:
    OSError: a file cannot be written.
  """
  shards: list[dict[str, np.ndarray]] = [{}]
  size = 0
  for name, tensor in tensors.items():
    if shards[-1] and size + tensor.nbytes > max_shard_bytes:
      shards.append({})
      size = 0
    shards[-1][name] = tensor
    size += tensor.nbytes
  names = [_MODEL]
  if len(shards) > 1:
    names = [
      f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
      for i in range(len(shards))
    ]
    index = {
      "metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
      "weight_map": {
        name: file
        for file, shard in zip(names, shards, strict=True)
        for name in shard
      },
    }
    write_json(folder / _INDEX, index)
  for file, shard in zip(names, shards, strict=True):
    # transformers refuses files without a format, and does not know "np".
    write_tensors(folder / file, shard, {"format": "pt"})
