"""Reads text from disk as a stream and tokenizes it once into a token file.

Only `datasets` downloads anything, and no text is cleaned.
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

from jaxlook import git_lfs
from jaxlook.errors import SettingError
from jaxlook.text import encode, token_file
from jaxlook.text.hf_datasets import PREFIX, open_rows
from jaxlook.text.token_file import TokenFile
from jaxlook.text.token_file import find as _find
from jaxlook.text.tokenizer import Tokenizer

DOCUMENT_BREAK = "\n\n"  # Between documents that are joined to one text.
_FORMAT = 3  # Raise it when the tokens of a given text, or a manifest, change.
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
_MOST_WORKERS = 4096
# Processes take seconds to start; one process tokenizes a smaller text sooner.
_LARGE_TEXT_BYTES = 8 << 20


class Source(Protocol):
  """A text's origin; `str` gives its name in messages."""

  @property
  def name(self) -> str:
    """The prefix of cache files for this text."""
    ...

  @property
  def selection(self) -> str:
    """The part of the files that is read; empty for all."""
    ...

  def files(self) -> list[Path]:
    """The files that are read, in order."""
    ...

  def documents(self, chunk_bytes: int) -> Iterator[Iterator[str]]:
    """Yields, for each non-empty document, consecutive parts of its text."""
    ...


@dataclasses.dataclass(frozen=True)
class Files:
  """A file, or a folder in which every file is a document.

  Attributes:
    path: absolute. Links are not resolved, because the target may lack the
      suffix that the link has.
    selection: empty: all of the files is read.
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
    """The files, sorted by relative name."""
    return _list_files(self.path)

  def documents(self, chunk_bytes: int) -> Iterator[Iterator[str]]:
    """Yields the text of every file; see `read_text` for errors."""
    for file in self.files():
      parts = _read_file(file, chunk_bytes)
      # Reading the first part here skips empty files.
      for first in parts:
        yield itertools.chain([first], parts)


def open_source(path: str | os.PathLike[str]) -> Source:
  """Opens a path, or `datasets:NAME`; see `open_rows`."""
  text = os.fspath(path)
  if text.startswith(PREFIX):
    return open_rows(text)
  return Files(Path(os.path.abspath(text)))


def read_text(
  path: str | os.PathLike[str] | Source, *, chunk_bytes: int = 1 << 20
) -> Iterator[str]:
  """Streams the text of a file, of a folder of files or of a data set.

  Args:
    path: a UTF-8 file, plain, `.gz` or `.xz`; a folder of such files, read
      recursively and sorted by relative name, without names that start with a
      dot and without following links to folders; `datasets:NAME`; or a
      `Source`.
    chunk_bytes: number of bytes to read at a time.

  Yields:
    Consecutive parts of the text with unchanged line ends. Empty files are
    skipped; `DOCUMENT_BREAK` separates the others.

  Raises:
    FileNotFoundError: the path, or a link's target, is missing.
    ValueError: a file cannot be read, is neither file nor folder, is binary
      (contains a NUL byte), is not valid UTF-8, or is corrupt or truncated
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
  """Tokenizes a text into a file under `cache_dir`, or finds it there.

  A file is found by the text's path, sizes and modification times and the
  tokenizer's hash. If these have changed, it is found by the hashes of the
  text's files. It is written whole or not at all, and its JSON manifest is
  written last. So a later call never uses what a killed or concurrent call
  left.

  Args:
    path: the text; see `read_text`.
    cache_dir: folder of the token file; created if missing.
    tokenizer: from `load_tokenizer`.
    documents: whether to keep documents (the files of a folder, the rows of a
      data set) separate: no token spans two documents, no break is inserted
      between them, and `TokenFile.ends` lists their ends.
    workers: number of processes for a large text; no effect on the tokens. More
      than 1 need a main module that can be imported.
    chunk_bytes: number of bytes to read at a time; no effect on the tokens.

  Returns:
    The token file.

  Raises:
    FileNotFoundError: the text is missing.
    ValueError: `read_text` raises it; the text changed while it was read or
      has no tokens; `cache_dir` is inside the text's folder, where it would
      become part of the text; `workers` is out of range; or the cached file is
      damaged.
    ImportError: a needed extra is not installed.
  """
  if not 1 <= workers <= _MOST_WORKERS:
    raise SettingError(
      "workers", f"must lie in 1..{_MOST_WORKERS}, not {workers}"
    )
  source, cache_dir = open_source(path), Path(cache_dir)
  state = source_state(source)
  _check_outside(cache_dir, source)
  stem = _stem(source, state, tokenizer, documents)
  made_of = functools.cache(lambda: _made_of(source, tokenizer, documents))
  if cached := _find(cache_dir, stem, made_of):
    return dataclasses.replace(cached, tokenizer=tokenizer.name)

  target = token_file.path(cache_dir, stem)
  dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
  large = sum(size for _, size, _ in state) >= _LARGE_TEXT_BYTES
  measured = _MeasuredSource(source, documents, chunk_bytes)
  ends = [0]

  def parts() -> Iterator[np.ndarray]:
    length = 0
    for batch in encode.encode(
      measured.documents(), tokenizer, dtype, workers if large else 1
    ):
      ends.extend(length + end for end in batch.ends)
      length += len(batch.ids)
      yield batch.ids
    if not length:
      raise ValueError(f"{source}: no tokens by tokenizer {tokenizer.name}")
    made_of()
    if source_state(source) != state:
      raise ValueError(
        f"{source}: the text changed while it was read; start again"
      )

  def describe() -> TokenFile:
    return TokenFile(
      path=target,
      dtype=dtype.name,
      length=ends[-1],
      vocab_size=tokenizer.vocab_size,
      num_bytes=measured.num_bytes,
      tokenizer=tokenizer.name,
      tokenizer_sha256=tokenizer.sha256,
      sha256=measured.sha256.hexdigest(),
      documents=len(ends) - 1 if documents else None,
    )

  counts = (lambda: np.diff(ends).tolist()) if documents else (lambda: None)
  return token_file.write(target, parts(), describe, made_of, counts)


def _check_outside(cache_dir: Path, source: Source) -> None:
  """Raises ValueError if the cache is inside the text's folder."""
  resolved = Path(os.path.realpath(cache_dir))
  if resolved.is_relative_to(os.path.realpath(str(source))):
    raise ValueError(
      f"{cache_dir}: the cache is inside the text's folder; choose a folder"
      " outside it"
    )


def _stem(
  source: Source,
  state: list[list[Any]],
  tokenizer: Tokenizer,
  documents: bool,
) -> str:
  """Returns the name of a token file, without its suffix."""
  key = [_FORMAT, str(source), state, tokenizer.sha256, documents]
  digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
  return f"{source.name[:40]}-{digest}"


class _MeasuredSource:
  """Reads a source's documents, and counts and hashes their bytes.

  Attributes:
    num_bytes: UTF-8 bytes read so far.
    sha256: hash of these bytes, with breaks between documents.
  """

  def __init__(self, source: Source, separate: bool, chunk_bytes: int):
    """Reads nothing yet.

    Args:
      source: the source.
      separate: whether to keep documents separate.
      chunk_bytes: number of bytes to read at a time.
    """
    self._source, self._separate, self._chunk = source, separate, chunk_bytes
    self.num_bytes, self.sha256 = 0, hashlib.sha256()

  def documents(self) -> Iterator[Iterator[str]]:
    """Yields each document, or the whole text as one document."""
    if not self._separate:
      yield self._measure(read_text(self._source, chunk_bytes=self._chunk))
      return
    for document in self._source.documents(self._chunk):
      if self.num_bytes:
        self.sha256.update(DOCUMENT_BREAK.encode())
      yield self._measure(document)
    if not self.num_bytes:
      raise ValueError(f"{self._source}: the text is empty")

  def _measure(self, texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
      data = text.encode()
      self.sha256.update(data)
      self.num_bytes += len(data)
      yield text


def _made_of(
  source: Source, tokenizer: Tokenizer, documents: bool
) -> dict[str, Any]:
  """Returns a token file's sources, and the content that fixes its tokens."""
  sources = []
  for path in source.files():
    with open(path, "rb") as file:
      sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    sources.append(
      {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256}
    )
  content = {
    "format": _FORMAT,
    # The suffix matters, since it says how to decompress; the name does not.
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
  """Returns data by which a change of the text is noticed.

  Args:
    source: the source of the text.

  Returns:
    Path, size and modification time in nanoseconds of every file.

  Raises:
    FileNotFoundError: the text is missing.
    ValueError: the text is neither file nor folder, or cannot be read.
  """
  stats = {str(file): _stat(file) for file in source.files()}
  return [[name, s.st_size, s.st_mtime_ns] for name, s in stats.items()]


def _list_files(path: Path) -> list[Path]:
  if stat.S_ISREG(_stat(path).st_mode):
    return [path]

  def refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename}: cannot be read: {error.strerror}")

  files = []
  # Without `onerror`, os.walk skips folders that it cannot list.
  for folder, subfolders, names in os.walk(path, onerror=refuse):
    subfolders[:] = [name for name in subfolders if name[0] != "."]
    files += [Path(folder, name) for name in names if name[0] != "."]
  if not files:
    raise ValueError(f"{path}: the folder has no files")
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
  git_lfs.check_fetched(path)
  decoder = codecs.getincrementaldecoder("utf-8")()
  decoded = 0  # In bytes.
  try:
    with _OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
      while data := file.read(chunk_bytes):
        if b"\0" in data:
          raise ValueError(f"{path}: binary, not text: contains a NUL byte")
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
