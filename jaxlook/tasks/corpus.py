"""Text on disk, read as a stream and tokenised once into a memory-mapped file.

A corpus is a UTF-8 file (plain, `.gz` or `.xz`) or a folder of such files. It
is never held in memory: `read_text` yields it in chunks, and `tokenize` writes
the tokens to a file that `TokenFile.tokens` maps. Left out: downloading, and
any cleaning of the text; the bytes are taken as they are.

Tokens do not depend on the chunk size. The text is cut into pieces, each of
which starts at a line break that is followed by a non-space character, and
each piece is encoded alone. For GPT-2's pre-tokeniser (Radford et al., 2019)
such a cut always lies between two words, so its tokens are those of the whole
text encoded at once.
"""

import codecs
import contextlib
import dataclasses
import gzip
import hashlib
import json
import lzma
import os
import re
import secrets
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

DOCUMENT_BREAK = "\n\n"  # Between the files of a folder.
_FORMAT = 1  # Raise it when the tokens of a given text change.
_CHUNK_BYTES = 1 << 20
_PIECE_START = re.compile(r"(?=\n\S)")
_MAX_PIECE = 1 << 16  # Characters; bounds memory on text without line breaks.
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}


@dataclasses.dataclass(frozen=True)
class TokenFile:
  """A tokenised text on disk.

  `num_bytes / length` is the mean number of bytes per token, which is what
  turns nats per token into bits per byte: a sample of windows is taken to have
  the whole file's ratio, which is exact for the file and unbiased for windows
  spread evenly over it.

  Attributes:
    path: the token file, flat and without a header.
    dtype: `uint8`, `uint16` or `uint32`, the smallest that holds every id.
    length: number of tokens.
    vocab_size: number of token ids, seen or not.
    num_bytes: UTF-8 bytes of the text, document breaks included.
    tokenizer: `bytes`, or the path as it was given to `tokenize`.
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
    """Maps the tokens, [length], read-only."""
    return np.memmap(self.path, dtype=self.dtype, mode="r")


def list_files(path: str | os.PathLike[str]) -> list[Path]:
  """Lists the files of a corpus, sorted by name relative to the folder.

  Args:
    path: a file, or a folder that is searched recursively. Files and folders
      whose name starts with a dot are ignored.

  Returns:
    The files; just `path` itself if it is a file.

  Raises:
    FileNotFoundError: the path, or the target of a link in it, is missing.
    ValueError: something there cannot be read, is neither a file nor a folder,
      or the folder holds no file.
  """
  path = Path(path)
  if stat.S_ISREG(_mode(path)):
    return [path]

  def refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename}: cannot be read: {error.strerror}")

  files = []
  # os.walk skips what it cannot list unless it is told to complain.
  for folder, subfolders, names in os.walk(path, onerror=refuse):
    subfolders[:] = [name for name in subfolders if name[0] != "."]
    files += [Path(folder, name) for name in names if name[0] != "."]
  if not files:
    raise ValueError(f"{path}: the folder holds no text file")
  for file in files:
    _mode(file)
  return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def _mode(path: Path) -> int:
  try:
    mode = path.stat().st_mode
  except (FileNotFoundError, NotADirectoryError):
    raise FileNotFoundError(f"{path}: no such file or folder") from None
  except OSError as error:
    raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
  if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
    raise ValueError(f"{path}: neither a file nor a folder")
  return mode


def read_text(
  path: str | os.PathLike[str], *, chunk_bytes: int = _CHUNK_BYTES
) -> Iterator[str]:
  """Streams the text of a file or a folder.

  Args:
    path: see `list_files`. `.gz` and `.xz` files are decompressed.
    chunk_bytes: how much is read at a time.

  Yields:
    Consecutive parts of the text, line ends as they are. Empty files are
    skipped; between two others stands `DOCUMENT_BREAK`.

  Raises:
    FileNotFoundError: see `list_files`.
    ValueError: see `list_files`; or the text is empty, binary (it holds a NUL
      byte), not valid UTF-8, or its compressed data are corrupt or truncated.
  """
  empty = True
  for file in list_files(path):
    between = "" if empty else DOCUMENT_BREAK
    for chunk in _read_file(file, chunk_bytes):
      yield between + chunk
      between, empty = "", False
  if empty:
    raise ValueError(f"{path}: the text is empty")


def _read_file(path: Path, chunk_bytes: int) -> Iterator[str]:
  decoder = codecs.getincrementaldecoder("utf-8")()
  position = 0  # Of the first byte that is not decoded yet.
  try:
    with _OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
      while data := file.read(chunk_bytes):
        if b"\0" in data:
          raise ValueError(f"{path}: binary, not text: it holds a NUL byte")
        if text := decoder.decode(data):
          yield text
        position += len(data) + len(text.encode()) - len(data)
      decoder.decode(b"", final=True)
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{path}: not valid UTF-8 at byte {position + error.start}"
    ) from error
  except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
    raise ValueError(
      f"{path}: corrupt or truncated {path.suffix} data: {error}"
    ) from error
  except OSError as error:
    raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
