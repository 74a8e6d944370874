"""Token files: a flat array on disk with a manifest that proves what it is.

The array has no header; its manifest, JSON of the same name, says how to map
it, what it was made from and where documents end. Both are written whole or not
at all, the manifest last. Integrity is checked whenever a file is found again.
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

_SUFFIX = ".tokens"


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
    num_bytes: UTF-8 bytes of the text; document breaks included, unless
      `documents` were kept apart.
    tokenizer: `bytes`, or the tokenizer's path as given to `load_tokenizer`.
    tokenizer_sha256: hash of the tokenizer's files.
    sha256: hash of the text's bytes after decompression, breaks included.
    documents: number of documents, if they were tokenised one by one; None if
      the text was taken as one.
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
    """Where documents end, ascending int64; `length` is the last.

    Returns:
      [documents]; [1] where the text was taken as one.

    Raises:
      OSError: the manifest of a text in documents cannot be read.
    """
    if self.documents is None:
      return np.array([self.length], np.int64)
    fields = json.loads(self.path.with_suffix(".json").read_bytes())
    return np.cumsum(np.array(fields["documents"], np.int64))


def write(
  target: Path,
  parts: Iterable[np.ndarray],
  finished: Callable[[], TokenFile],
  made_of: Callable[[], Mapping[str, Any]],
  documents: Callable[[], Sequence[int] | None],
) -> TokenFile:
  """Writes a token file and then its manifest.

  Args:
    target: the token file; ends in `.tokens`.
    parts: its tokens in order, in its dtype.
    finished: describes it; called when all parts are written.
    made_of: what it is found again by; called then, too.
    documents: called then, gives the tokens of each document; None for a text
      that was taken as one.

  Returns:
    What `finished` returned.

  Raises:
    OSError: a file cannot be written; nothing that counts is left.
  """
  sha256 = hashlib.sha256()

  def hashed() -> Iterable[bytes]:
    for part in parts:
      data = part.tobytes()
      sha256.update(data)
      yield data

  write_bytes(target, hashed())
  made = finished()
  fields = dataclasses.asdict(made) | {
    "path": target.name,
    "tokens_sha256": sha256.hexdigest(),
    "made_of": made_of(),
    "documents": documents(),
  }
  write_bytes(
    target.with_suffix(".json"), json.dumps(fields, indent=2).encode()
  )
  return made


def find(
  folder: Path, stem: str, made_of: Callable[[], Mapping[str, Any]]
) -> TokenFile | None:
  """Finds a token file by its name, or by what it was made of.

  Args:
    folder: where to look.
    stem: the name that it would be written by.
    made_of: what it would be made of; asked for only where there is no file of
      that name.

  Returns:
    The file; None where there is none, or only one that is cut short or has a
    broken manifest.

  Raises:
    ValueError: its tokens are not those that were written.
  """
  if found := _read(folder / f"{stem}.json"):
    return found
  others = [
    path.with_suffix(".json") for path in sorted(folder.glob(f"*{_SUFFIX}"))
  ]
  wanted = made_of() if others else {}
  for manifest in others:
    try:
      fields = json.loads(manifest.read_bytes())
      same = fields["made_of"]["content"] == wanted["content"]
    except (OSError, ValueError, TypeError, KeyError):
      continue
    if same and (found := _read(manifest)):
      return found
  return None


def path(folder: Path, stem: str) -> Path:
  """The token file of a name."""
  return folder / f"{stem}{_SUFFIX}"


def _read(manifest: Path) -> TokenFile | None:
  """The file of a manifest, if it is whole."""
  target = manifest.with_suffix(_SUFFIX)
  names = [field.name for field in dataclasses.fields(TokenFile)]
  try:
    fields = json.loads(manifest.read_bytes())
    counts, sha256 = fields["documents"], fields["tokens_sha256"]
    documents = None if counts is None else len(counts)
    found = TokenFile(
      **{name: fields[name] for name in names}
      | {"path": target, "documents": documents}
    )
    whole = counts is None or sum(counts) == found.length
    size = found.length * np.dtype(found.dtype).itemsize
    if not whole or os.stat(target).st_size != size:
      return None
  except (OSError, ValueError, TypeError, KeyError):
    return None  # Absent, or damaged from outside: it is made anew.
  with open(target, "rb") as file:
    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
      raise ValueError(
        f"{target}: damaged: its tokens are not those that were written;"
        " delete it to have it made anew"
      )
  return found
