"""Checksums that tell whether files are still as they were written.

A folder's `SHA256SUMS` has a first line with what the folder holds and a digest
of the list itself, then one line a file, as `sha256sum` writes and checks it.
Folders of earlier versions have none.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from jaxlook.errors import DamagedError
from jaxlook.runs import io_faults
from jaxlook.runs.atomic_files import write_bytes

NAME = "SHA256SUMS"

_HEAD = re.compile(r"# (.*); this list: ([0-9a-f]{64})")
_LINE = re.compile(r"^([0-9a-f]{64})  (.+)$", re.MULTILINE)


def write(
  folder: Path,
  about: str,
  files: Iterable[str],
  later: Mapping[str, bytes] | None = None,
) -> None:
  """Writes the checksums of a folder's files.

  Args:
    folder: the folder.
    about: what the folder holds, in one line.
    files: names of files that exist, relative to the folder.
    later: by name, the content of files that are not written yet.

  Raises:
    OSError: a file cannot be read, or the checksums cannot be written.
  """
  sums = {name: _digest(folder / name) for name in files}
  for name, content in (later or {}).items():
    sums[name] = hashlib.sha256(content).hexdigest()
  body = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
  head = f"# {about}; this list: {_digest_of_list(about, body)}"
  write_bytes(folder / NAME, f"{head}\n{body}".encode())


def check(folder: Path) -> str | None:
  """Checks that all files are as they were when the checksums were written.

  Args:
    folder: the folder.

  Returns:
    What the folder holds; None if it has no checksums.

  Raises:
    DamagedError: a file is missing or has changed.
    OSError: a file cannot be read.
  """
  try:
    data = io_faults.read_bytes(folder / NAME)
  except (FileNotFoundError, NotADirectoryError):
    return None
  except IsADirectoryError as error:
    raise DamagedError(f"{folder / NAME} is a folder, not a file") from error
  head, _, body = data.decode(errors="replace").partition("\n")
  about = _HEAD.fullmatch(head)
  if about is None or about[2] != _digest_of_list(about[1], body):
    raise DamagedError(f"{folder / NAME} has changed since it was written")
  for digest, name in _LINE.findall(body):
    _check_file(folder / name, digest)
  return about[1]


def _digest_of_list(about: str, body: str) -> str:
  return hashlib.sha256(f"{about}\n{body}".encode()).hexdigest()


def _check_file(path: Path, digest: str) -> None:
  """Raises DamagedError unless the file has the digest."""
  try:
    changed = _digest(path) != digest
  except (FileNotFoundError, NotADirectoryError) as error:
    raise DamagedError(f"{path} is missing") from error
  except IsADirectoryError as error:
    raise DamagedError(f"{path} is a folder, not a file") from error
  if changed:
    raise DamagedError(f"{path} has changed since it was written")


def _digest(path: Path) -> str:
  with io_faults.named(path), open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
