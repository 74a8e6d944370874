"""Pointers that Git LFS leaves in the place of files that it did not fetch."""

from pathlib import Path

_FIRST = b"version https://git-lfs.github.com/spec/"


def check_fetched(file: Path) -> None:
  """Refuses a pointer in the place of a file.

  Args:
    file: what is to be read; others than plain files pass.

  Raises:
    ValueError: it is a pointer.
    OSError: it cannot be read.
  """
  if not file.is_file():
    return
  with open(file, "rb") as content:
    if content.read(len(_FIRST)) == _FIRST:
      raise ValueError(
        f"{file} is a Git LFS pointer, not the file itself; run `git lfs pull`"
        f" in {file.parent}"
      )
