"""Text on disk, read as a stream and tokenised once into a memory-mapped file.

Left out: downloading, and any cleaning of the text.
"""

import codecs
import dataclasses
import gzip
import hashlib
import json
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxlook.files import write_bytes
from jaxlook.tasks.tokenizer import Tokenizer

DOCUMENT_BREAK = "\n\n"  # Between the files of a folder.
_FORMAT = 1  # Raise it when the tokens of a given text change.
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}


@dataclasses.dataclass(frozen=True)
class TokenFile:
  """A tokenised text on disk.

  Bits per byte need the bytes behind a set of windows. Take `num_bytes /
  length` bytes per token: exact for the whole file, and unbiased for windows
  spread evenly over it.

  Attributes:
    path: the token file, flat and without a header.
    dtype: `uint8`, `uint16` or `uint32`, the smallest that holds every id.
    length: number of tokens.
    vocab_size: number of token ids, seen or not.
    num_bytes: UTF-8 bytes of the text, document breaks included.
    tokenizer: `bytes`, or the tokenizer's path as given to `load_tokenizer`.
    tokenizer_sha256: hash of the tokenizer's files.
    sha256: hash of the text's bytes after decompression.
  """

  path: Path
  dtype: str
  length: int
  vocab_size: int
  num_bytes: int
  tokenizer: str
  tokenizer_sha256: str
  sha256: str

  def tokens(self) -> np.memmap:
    """Maps the tokens, [length] of `dtype`, read-only."""
    return np.memmap(self.path, dtype=self.dtype, mode="r")


def read_text(
  path: str | os.PathLike[str], *, chunk_bytes: int = 1 << 20
) -> Iterator[str]:
  """Streams the text of a file or of a folder of files.

  Args:
    path: a UTF-8 file, plain or `.gz` or `.xz`; or a folder of such files,
      taken recursively in the order of their relative names. Names that start
      with a dot are ignored, and links to folders are not followed.
    chunk_bytes: how many bytes are read at a time.

  Yields:
    Consecutive parts of the text, line ends as they are. Empty files are
    skipped; between two others stands `DOCUMENT_BREAK`.

  Raises:
    FileNotFoundError: the path, or what a link in it points to, is missing.
    ValueError: something cannot be read, is neither file nor folder, is binary
      (holds a NUL byte), is not valid UTF-8, or is corrupt or truncated
      compressed data; or the folder has no files, or the text is empty.
  """
  empty = True
  for file in _list_files(Path(path)):
    lead = "" if empty else DOCUMENT_BREAK
    for text in _read_file(file, chunk_bytes):
      yield lead + text
      lead, empty = "", False
  if empty:
    raise ValueError(f"{path}: the text is empty")


def tokenize(
  path: str | os.PathLike[str],
  cache_dir: str | os.PathLike[str],
  tokenizer: Tokenizer,
  *,
  chunk_bytes: int = 1 << 20,
) -> TokenFile:
  """Tokenises a text into a file under `cache_dir`, or finds it there.

  The file is found again by the text's path, sizes and modification times and
  the tokenizer's hash. It is written whole or not at all, with a JSON manifest
  beside it that is written last: killed or concurrent calls leave nothing that
  a later call would mistake for a result.

  Args:
    path: the text; see `read_text`.
    cache_dir: where the token file goes; made if missing.
    tokenizer: turns text into tokens; from `load_tokenizer`.
    chunk_bytes: how many bytes are read at a time; no effect on the tokens.

  Returns:
    The token file.

  Raises:
    FileNotFoundError: the text is missing.
    ValueError: the text is refused by `read_text`, changed while it was read,
      or gave no tokens; or `cache_dir` lies in the text's folder, where it
      would become part of the text.
  """
  source, cache_dir = absolute(path), Path(cache_dir)
  state = source_state(source)
  inside = Path(os.path.realpath(cache_dir))
  if inside.is_relative_to(os.path.realpath(source)):
    raise ValueError(f"{cache_dir}: the cache may not lie inside the text")
  key = json.dumps([_FORMAT, str(source), state, tokenizer.sha256])
  stem = f"{source.name[:40]}-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
  target, manifest = cache_dir / f"{stem}.tokens", cache_dir / f"{stem}.json"
  if found := _find(target, manifest):
    return dataclasses.replace(found, tokenizer=tokenizer.name)

  dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
  sha256, num_bytes, length = hashlib.sha256(), 0, 0

  def measured() -> Iterator[str]:
    nonlocal num_bytes
    for text in read_text(source, chunk_bytes=chunk_bytes):
      data = text.encode()
      sha256.update(data)
      num_bytes += len(data)
      yield text

  def encoded() -> Iterator[bytes]:
    nonlocal length
    for ids in tokenizer.encode(measured()):
      length += len(ids)
      yield ids.astype(dtype).tobytes()
    if not length:
      raise ValueError(f"{source}: no tokens by tokenizer {tokenizer.name}")
    if source_state(source) != state:
      raise ValueError(f"{source}: the text changed while it was read")

  write_bytes(target, encoded())
  made = TokenFile(
    path=target,
    dtype=dtype.name,
    length=length,
    vocab_size=tokenizer.vocab_size,
    num_bytes=num_bytes,
    tokenizer=tokenizer.name,
    tokenizer_sha256=tokenizer.sha256,
    sha256=sha256.hexdigest(),
  )
  fields = dataclasses.asdict(made) | {"path": target.name}
  write_bytes(manifest, json.dumps(fields, indent=2).encode())
  return made


def _find(target: Path, manifest: Path) -> TokenFile | None:
  try:
    fields = json.loads(manifest.read_text()) | {"path": target}
    found = TokenFile(**fields)
    num_bytes = found.length * np.dtype(found.dtype).itemsize
    return found if target.stat().st_size == num_bytes else None
  except (FileNotFoundError, ValueError, TypeError):
    return None  # Absent, or damaged from outside.


def _list_files(path: Path) -> list[Path]:
  if stat.S_ISREG(_stat(path).st_mode):
    return [path]

  def refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename}: cannot be read: {error.strerror}")

  files = []
  # os.walk skips folders that it cannot list, unless told otherwise.
  for folder, subfolders, names in os.walk(path, onerror=refuse):
    subfolders[:] = [name for name in subfolders if name[0] != "."]
    files += [Path(folder, name) for name in names if name[0] != "."]
  if not files:
    raise ValueError(f"{path}: the folder holds no files")
  return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def _stat(path: Path) -> os.stat_result:
  try:
    result = path.stat()
  except (FileNotFoundError, NotADirectoryError):
    raise FileNotFoundError(f"{path}: no such file or folder") from None
  except OSError as error:
    raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
  if not (stat.S_ISREG(result.st_mode) or stat.S_ISDIR(result.st_mode)):
    raise ValueError(f"{path}: neither a file nor a folder")
  return result


def absolute(path: str | os.PathLike[str]) -> Path:
  """The path of a text from the root.

  Links stay: one may have the suffix that its target lacks.
  """
  return Path(os.path.abspath(path))


def source_state(source: Path) -> list[list[str | int]]:
  """What tells whether a text is the one that was read before.

  Args:
    source: a file or a folder of them.

  Returns:
    Path, size and modification time in nanoseconds of every file.

  Raises:
    FileNotFoundError: the text is missing.
    ValueError: it is neither file nor folder, or cannot be read.
  """
  stats = {str(file): _stat(file) for file in _list_files(source)}
  return [[name, s.st_size, s.st_mtime_ns] for name, s in stats.items()]


def _read_file(path: Path, chunk_bytes: int) -> Iterator[str]:
  _stat(path)
  decoder = codecs.getincrementaldecoder("utf-8")()
  decoded = 0  # Bytes.
  try:
    with _OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
      while data := file.read(chunk_bytes):
        if b"\0" in data:
          raise ValueError(f"{path}: binary, not text: it holds a NUL byte")
        if text := decoder.decode(data):
          yield text
        decoded += len(text.encode())
      decoder.decode(b"", final=True)
  except UnicodeDecodeError as error:
    at = decoded + error.start
    raise ValueError(f"{path}: not valid UTF-8 at byte {at}") from error
  except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
    raise ValueError(f"{path}: corrupt or truncated: {error}") from error
  except OSError as error:
    raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
