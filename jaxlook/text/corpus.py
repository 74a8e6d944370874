"""Text on disk, read as a stream and tokenised once into a memory-mapped file.

Left out: downloading by other means than `datasets`, and any cleaning of the
text.
"""

import codecs
import dataclasses
import functools
import gzip
import hashlib
import itertools
import json
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxlook.errors import SettingError
from jaxlook.text import encode, token_file
from jaxlook.text.hf_datasets import PREFIX, open_rows
from jaxlook.text.token_file import TokenFile
from jaxlook.text.token_file import find as _find
from jaxlook.text.tokenizer import Tokenizer

DOCUMENT_BREAK = "\n\n"  # Between documents that are not kept apart.
_FORMAT = 2  # Raise it when the tokens of a given text, or a manifest, change.
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
# Processes take seconds to start; a text below that is tokenised sooner.
_WORTH_PROCESSES = 8 << 20


class Source(Protocol):
  """Where a text comes from; its string is what it is called in messages."""

  @property
  def name(self) -> str:
    """Begins the names of files that are made from it."""
    ...

  @property
  def selection(self) -> str:
    """What of the files is read; empty for all."""
    ...

  def files(self) -> list[Path]:
    """The files that it is read from, in order."""
    ...

  def documents(self, chunk_bytes: int) -> Iterator[Iterator[str]]:
    """Consecutive parts of every document that is not empty."""
    ...


@dataclasses.dataclass(frozen=True)
class Files:
  """A file, or a folder of files that are a document each.

  Attributes:
    path: from the root. Links stay: one may have the suffix that its target
      lacks.
  """

  path: Path
  selection: str = ""

  def __str__(self) -> str:
    """The path."""
    return str(self.path)

  @property
  def name(self) -> str:
    """The last part of the path."""
    return self.path.name

  def files(self) -> list[Path]:
    """The files in the order of their relative names."""
    return _list_files(self.path)

  def documents(self, chunk_bytes: int) -> Iterator[Iterator[str]]:
    """The text of every file; see `read_text` for what is refused."""
    for file in self.files():
      parts = _read_file(file, chunk_bytes)
      # The first part is read here, to pass over a file without any.
      for first in parts:
        yield itertools.chain([first], parts)


def open_source(path: str | os.PathLike[str]) -> Source:
  """The source of a path, or of `datasets:NAME`; see `open_rows`."""
  text = os.fspath(path)
  if text.startswith(PREFIX):
    return open_rows(text)
  return Files(Path(os.path.abspath(text)))


def read_text(
  path: str | os.PathLike[str] | Source, *, chunk_bytes: int = 1 << 20
) -> Iterator[str]:
  """Streams the text of a file, of a folder of files or of a data set.

  Args:
    path: a UTF-8 file, plain or `.gz` or `.xz`; or a folder of such files,
      taken recursively in the order of their relative names. Names that start
      with a dot are ignored, and links to folders are not followed. Or
      `datasets:NAME`, or a `Source`.
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
  source = open_source(path) if isinstance(path, (str, os.PathLike)) else path
  lead = ""
  for document in source.documents(chunk_bytes):
    for text in document:
      yield lead + text
      lead = ""
    lead = DOCUMENT_BREAK
  if not lead:
    raise ValueError(f"{path}: the text is empty")


def tokenize(
  path: str | os.PathLike[str],
  cache_dir: str | os.PathLike[str],
  tokenizer: Tokenizer,
  *,
  documents: bool = False,
  workers: int = 1,
  chunk_bytes: int = 1 << 20,
) -> TokenFile:
  """Tokenises a text into a file under `cache_dir`, or finds it there.

  The file is found again by the text's path, sizes and modification times and
  the tokenizer's hash; or, where those have changed, by the hashes of what the
  text is read from. It is written whole or not at all, with a JSON manifest
  beside it that is written last: killed or concurrent calls leave nothing that
  a later call would mistake for a result.

  Args:
    path: the text; see `read_text`.
    cache_dir: where the token file goes; made if missing.
    tokenizer: turns text into tokens; from `load_tokenizer`.
    documents: whether to keep documents (the files of a folder, the rows of a
      data set) apart: none shares a token with the next, no break stands
      between them, and `TokenFile.ends` says where they end.
    workers: processes that tokenise a large text; no effect on the tokens.
      Others than 1 need a main module that can be imported.
    chunk_bytes: how many bytes are read at a time; no effect on the tokens.

  Returns:
    The token file.

  Raises:
    FileNotFoundError: the text is missing.
    ValueError: the text is refused by `read_text`, changed while it was read,
      or gave no tokens; `cache_dir` lies in the text's folder, where it would
      become part of the text; `workers` is below 1; or the file that is found
      is damaged.
    ImportError: an extra is needed and not installed.
  """
  if workers < 1:
    raise SettingError("workers", f"must be at least 1, not {workers}")
  source, cache_dir = open_source(path), Path(cache_dir)
  state = source_state(source)
  inside = Path(os.path.realpath(cache_dir))
  if inside.is_relative_to(os.path.realpath(str(source))):
    raise ValueError(f"{cache_dir}: the cache may not lie inside the text")
  key = [_FORMAT, str(source), state, tokenizer.sha256, documents]
  digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
  stem = f"{source.name[:40]}-{digest}"
  made_of = functools.cache(lambda: _made_of(source, tokenizer, documents))
  if found := _find(cache_dir, stem, made_of):
    return dataclasses.replace(found, tokenizer=tokenizer.name)

  target = token_file.path(cache_dir, stem)
  dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
  read = _Read(source, documents, chunk_bytes)
  ends = [0]

  def parts() -> Iterator[np.ndarray]:
    length = 0
    few = sum(size for _, size, _ in state) < _WORTH_PROCESSES
    for found in encode.encode(
      read.documents(), tokenizer, dtype, 1 if few else workers
    ):
      ends.extend(length + end for end in found.ends)
      length += len(found.ids)
      yield found.ids
    if not length:
      raise ValueError(f"{source}: no tokens by tokenizer {tokenizer.name}")
    made_of()
    if source_state(source) != state:
      raise ValueError(f"{source}: the text changed while it was read")

  def finished() -> TokenFile:
    return TokenFile(
      path=target,
      dtype=dtype.name,
      length=ends[-1],
      vocab_size=tokenizer.vocab_size,
      num_bytes=read.num_bytes,
      tokenizer=tokenizer.name,
      tokenizer_sha256=tokenizer.sha256,
      sha256=read.sha256.hexdigest(),
      documents=len(ends) - 1 if documents else None,
    )

  counts = (lambda: np.diff(ends).tolist()) if documents else (lambda: None)
  return token_file.write(target, parts(), finished, made_of, counts)


class _Read:
  """The documents of a source, measured as they are read.

  Attributes:
    num_bytes: UTF-8 bytes of what was read so far.
    sha256: hash of them, with breaks between documents.
  """

  def __init__(self, source: Source, apart: bool, chunk_bytes: int):
    """Reads nothing yet; `apart` keeps documents apart."""
    self._source, self._apart, self._chunk = source, apart, chunk_bytes
    self.num_bytes, self.sha256 = 0, hashlib.sha256()

  def documents(self) -> Iterator[Iterator[str]]:
    """The documents, or all of them as one."""
    if not self._apart:
      yield self._measured(read_text(self._source, chunk_bytes=self._chunk))
      return
    for document in self._source.documents(self._chunk):
      if self.num_bytes:
        self.sha256.update(DOCUMENT_BREAK.encode())
      yield self._measured(document)
    if not self.num_bytes:
      raise ValueError(f"{self._source}: the text is empty")

  def _measured(self, texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
      data = text.encode()
      self.sha256.update(data)
      self.num_bytes += len(data)
      yield text


def _made_of(
  source: Source, tokenizer: Tokenizer, documents: bool
) -> dict[str, Any]:
  """What a token file is made from, and what of that decides its tokens."""
  sources = []
  for path in source.files():
    with open(path, "rb") as file:
      sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    sources.append(
      {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256}
    )
  content = {
    "format": _FORMAT,
    # Not the name: but its suffix says how the bytes are read.
    "sources": [
      [path.suffix.lower(), each["sha256"]]
      for path, each in zip(source.files(), sources, strict=True)
    ],
    "selection": source.selection,
    "tokenizer_sha256": tokenizer.sha256,
    "documents": documents,
  }
  return {"sources": sources, "content": content}


def source_state(source: Source) -> list[list[Any]]:
  """What tells whether a text is the one that was read before.

  Args:
    source: the text's.

  Returns:
    Path, size and modification time in nanoseconds of every file.

  Raises:
    FileNotFoundError: the text is missing.
    ValueError: it is neither file nor folder, or cannot be read.
  """
  stats = {str(file): _stat(file) for file in source.files()}
  return [[name, s.st_size, s.st_mtime_ns] for name, s in stats.items()]


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
