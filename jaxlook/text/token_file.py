"""Token files: a flat array of tokens on disk, with a manifest.

The array has no header. Its manifest, a JSON file with the same stem, holds the
dtype, the sources, the hashes and the ends of documents. Both are written whole
or not at all, the manifest last. Hashes are checked whenever a file is found.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxlook.runs.atomic_files import write_bytes
from jaxlook.runs.json_files import read_json

_SUFFIX = ".tokens"


@dataclasses.dataclass(frozen=True)
class TokenFile:
  """A tokenized text on disk.

  For bits per byte, use `num_bytes / length` bytes per token. This is exact for
  the whole file, and unbiased for windows spread evenly over it.

  Attributes:
    path: the token file.
    dtype: `uint8`, `uint16` or `uint32`, the smallest that fits every id.
    length: number of tokens.
    vocab_size: number of token ids, seen or not.
    num_bytes: UTF-8 bytes of the text; with document breaks, unless documents
      were tokenized separately.
    tokenizer: `bytes`, or the tokenizer's path as given to `load_tokenizer`.
    tokenizer_sha256: hash of the tokenizer's files.
    sha256: hash of the text's bytes after decompression, with breaks.
    documents: number of documents, if they were tokenized separately; None for
      a text tokenized as one.
  """

  path: Path
  dtype: str
  length: int
  vocab_size: int
  num_bytes: int
  tokenizer: str
  tokenizer_sha256: str
  sha256: str
  documents: int | None = None

  def tokens(self) -> np.memmap:
    """Maps the tokens, [length] of `dtype`, read-only."""
    return np.memmap(self.path, dtype=self.dtype, mode="r")

  def ends(self) -> np.ndarray:
    """Reads the positions where documents end.

    Returns:
      Ascending int64 [documents], or [1] for a text tokenized as one; the last
      is `length`.

    Raises:
      OSError: documents were tokenized separately, and the manifest cannot be
        read.
    """
    if self.documents is None:
      return np.array([self.length], np.int64)
    fields = read_json(self.path.with_suffix(".json"))
    return np.cumsum(np.array(fields["documents"], np.int64))

  def sources(self) -> list[dict[str, Any]]:
    """Reads `path`, `bytes` and `sha256` of the files that the text is from.

    Raises:
      OSError: the manifest cannot be read.
    """
    fields = json.loads(self.path.with_suffix(".json").read_bytes())
    return fields["made_of"]["sources"]


def write(
  target: Path,
  parts: Iterable[np.ndarray],
  describe: Callable[[], TokenFile],
  made_of: Callable[[], Mapping[str, Any]],
  documents: Callable[[], Sequence[int] | None],
) -> TokenFile:
  """Writes a token file and then its manifest.

  Args:
    target: the token file; ends in `.tokens`.
    parts: its tokens in order, in its dtype.
    describe: returns the description of the file; called after all parts are
      written, as are the next two.
    made_of: returns the data by which `find` finds the file.
    documents: returns the number of tokens of each document; None for a text
      tokenized as one.

  Returns:
    The description.

  Raises:
    OSError: a file cannot be written; no manifest is left.
  """
  sha256 = hashlib.sha256()

  def hash_parts() -> Iterable[bytes]:
    for part in parts:
      data = part.tobytes()
      sha256.update(data)
      yield data

  write_bytes(target, hash_parts())
  described = describe()
  fields = dataclasses.asdict(described) | {
    "path": target.name,
    "tokens_sha256": sha256.hexdigest(),
    "made_of": made_of(),
    "documents": documents(),
  }
  write_bytes(
    target.with_suffix(".json"), json.dumps(fields, indent=2).encode()
  )
  return described


def find(
  folder: Path, stem: str, made_of: Callable[[], Mapping[str, Any]]
) -> TokenFile | None:
  """Finds a token file by its name, or by its sources.

  Args:
    folder: the folder to search.
    stem: the file's name without suffix.
    made_of: returns the sources that the file must have; called only if there
      is no file of that name.

  Returns:
    The file; None if there is none, or if it is truncated or its manifest is
    broken.

  Raises:
    ValueError: the tokens differ from those written.
  """
  if file := _read(folder / f"{stem}.json"):
    return file
  others = [
    path.with_suffix(".json") for path in sorted(folder.glob(f"*{_SUFFIX}"))
  ]
  sources = made_of() if others else {}
  for manifest in others:
    try:
      fields = read_json(manifest)
      same = fields["made_of"]["content"] == sources["content"]
    except (OSError, ValueError, TypeError, KeyError):
      continue
    if same and (file := _read(manifest)):
      return file
  return None


def path(folder: Path, stem: str) -> Path:
  """Returns the path of a token file."""
  return folder / f"{stem}{_SUFFIX}"


def _read(manifest: Path) -> TokenFile | None:
  """Reads a manifest; None if it or its token file is not whole."""
  target = manifest.with_suffix(_SUFFIX)
  names = [field.name for field in dataclasses.fields(TokenFile)]
  try:
    fields = read_json(manifest)
    counts, sha256 = fields["documents"], fields["tokens_sha256"]
    documents = None if counts is None else len(counts)
    token_file = TokenFile(
      **{name: fields[name] for name in names}
      | {"path": target, "documents": documents}
    )
    whole = counts is None or sum(counts) == token_file.length
    size = token_file.length * np.dtype(token_file.dtype).itemsize
    if not whole or os.stat(target).st_size != size:
      return None
  except (OSError, ValueError, TypeError, KeyError):
    return None  # Absent or broken: the caller writes it again.
  with open(target, "rb") as file:
    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
      raise ValueError(
        f"{target}: damaged: its tokens differ from those written; delete the"
        " file, and it will be made again"
      )
  return token_file
