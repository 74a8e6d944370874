"""Files written whole or not at all, and names for folders."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jaxlook.runs import io_faults, result_schema

TEMPORARY_SUFFIX = ".jaxlook-tmp"
"""The end of the names of hidden files that a killed write leaves behind."""

# What a slug writes for characters that cause trouble in a path. The images are
# escaped where they occur themselves, so different texts have different slugs.
_SLUG_IMAGES = {"/": "+", ":": "@", " ": "~"}
_SLUG_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-=,")
_SLUG_MAX = 120


def write_bytes(
  path: str | os.PathLike[str], data: bytes | Iterable[bytes]
) -> None:
  """Writes a file whole or not at all, making its folder where needed.

  The data goes to a hidden file beside the target, is synced to disk and then
  renamed to the target. So neither a crash nor a reader can see half a file.

  Args:
    path: the file, replaced if it exists.
    data: its new content, whole or in parts that are written one by one.

  Raises:
    OSError: the file, which the error names, cannot be written; what was there
      before is unchanged.
  """
  parts = [data] if isinstance(data, bytes) else data
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(
    f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
  )
  with io_faults.named(path):
    try:
      # Other users may read it, unlike a file of mkstemp. "x" refuses a clash.
      with open(temporary, "xb") as file:
        for part in parts:
          file.write(part)
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, path)
    except BaseException:
      with contextlib.suppress(OSError):
        os.unlink(temporary)
      raise
    _sync_folder(path.parent)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Writes strict JSON, whole or not at all.

  Args:
    path: the file, replaced if it exists.
    value: see `json_bytes`.

  Raises:
    ValueError: the value holds something JSON cannot; nothing is written.
    OSError: the file cannot be written.
  """
  write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
  """Returns the content of a JSON file.

  Args:
    value: anything that `jaxlook.runs.result_schema.plain` accepts. A float
      that is not finite is written as null, since JSON has neither NaN nor
      infinity.

  Raises:
    ValueError: the value holds something JSON cannot.
  """
  text = json.dumps(result_schema.plain(value), allow_nan=False, indent=2)
  return f"{text}\n".encode()


def write_table(path: str | os.PathLike[str], table: pa.Table) -> None:
  """Writes a table as parquet, whole or not at all.

  Args:
    path: the file, replaced if it exists.
    table: the table.

  Raises:
    OSError: the file cannot be written.
  """
  sink = pa.BufferOutputStream()
  pq.write_table(table, sink)
  write_bytes(path, sink.getvalue().to_pybytes())


def slug(text: str) -> str:
  """Returns a folder name for a variant or setting, different for each text.

  Lower-case letters, digits and `. _ - = ,` stay as they are. Slash, colon and
  space become `+`, `@` and `~`. Upper-case letters become `^` and the
  lower-case letter, since some file systems ignore case. A leading dot or dash
  and all other characters become `%` and two hex digits per UTF-8 byte. The
  name of a long text ends in a SHA-256 digest, which makes it different up to
  a collision.

  Args:
    text: for instance "leak:0.3/kv/values", which gives "leak@0.3+kv+values".

  Returns:
    A name of at most 120 ASCII characters that is safe in a path.

  Raises:
    ValueError: the text is empty.
  """
  if not text:
    raise ValueError("a slug needs a text that is not empty")
  name = "".join(
    _slug_character(character, leading=index == 0)
    for index, character in enumerate(text)
  )
  if len(name) <= _SLUG_MAX:
    return name
  digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
  # "%s" occurs in no short name, where hex digits follow every "%".
  ending = f"%sha{digest[:32]}"
  return name[: _SLUG_MAX - len(ending)] + ending


def _sync_folder(folder: Path) -> None:
  """Makes a rename in the folder survive a power cut, where possible."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  except OSError as error:
    # Some network file systems cannot sync a folder. The rename remains.
    if error.errno not in (errno.EINVAL, errno.ENOTSUP):
      raise
  finally:
    os.close(descriptor)


def _slug_character(character: str, *, leading: bool) -> str:
  # A leading dot hides a file or means "..", a leading dash reads as a flag.
  if character in _SLUG_PLAIN and not (leading and character in ".-"):
    return character
  if character in _SLUG_IMAGES:
    return _SLUG_IMAGES[character]
  if "A" <= character <= "Z":
    return f"^{character.lower()}"
  encoded = character.encode("utf-8", "surrogatepass")
  return "".join(f"%{byte:02x}" for byte in encoded)
