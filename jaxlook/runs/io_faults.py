"""Faults of the file system, whichever library reports them."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

# As tensorstore reports them, in the text of a ValueError.
_CODE = re.compile(r"os_error_code='(\d+)'")
_WRONG_PATH = (
  errno.ENOENT,
  errno.ENOTDIR,
  errno.EISDIR,
  errno.EEXIST,
  errno.ENAMETOOLONG,
  errno.ELOOP,
  errno.EINVAL,
)


def code(error: BaseException | None) -> int | None:
  """Returns the operating system's number of an error, or None."""
  if isinstance(error, OSError):
    return error.errno
  found = _CODE.search(str(error))
  return int(found[1]) if found else None


def is_fault(error: BaseException | None) -> bool:
  """Whether an error is the machine's: no space, no permission, broken disk.

  A path that does not exist, or that is a folder where a file is expected, is
  not.
  """
  number = code(error)
  return number is not None and number not in _WRONG_PATH


@contextlib.contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
  """Names the path in errors of the operating system.

  Args:
    path: what the body reads or writes.

  Yields:
    Nothing.

  Raises:
    OSError: of this path, for any error of the operating system.
  """
  try:
    yield
  except Exception as error:
    number = code(error)
    if number is None:
      raise
    reason = isinstance(error, OSError) and error.strerror
    raise OSError(
      number, reason or os.strerror(number), str(Path(path))
    ) from error


def read_bytes(path: Path) -> bytes:
  """Reads a file; errors name it, which those of reading do not in Python."""
  with named(path):
    return path.read_bytes()


def line(error: OSError) -> str:
  """Returns the path, if it is known, and the reason, in one line."""
  path = error.filename2 or error.filename
  reason = " ".join((error.strerror or str(error)).split())
  return f"{path}: {reason}" if path else reason
