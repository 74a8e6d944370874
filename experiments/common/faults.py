"""Ends a process in one line where the machine, or a run folder, has a fault.

Not a binary. No disk space, no permission and a broken disk are no bugs, so
nobody needs a traceback. The line has the path and the reason.
"""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from absl import logging as absl_logging

from jaxlook.errors import RunFolderError
from jaxlook.runs import io_faults

FAILED = 1
"""The exit status after a fault of the machine."""
BAD_INPUT = 2
"""The exit status after bad input, such as a damaged run folder."""


def silence_libraries() -> None:
  """Keeps libraries from logging what they also raise, or what is harmless."""
  # Orbax narrates every file that it writes, and prints its tracebacks.
  absl_logging.set_verbosity(absl_logging.FATAL)
  # If one file of a checkpoint fails, the errors of the others are not awaited.
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  sys.unraisablehook = _skip_late_callbacks


def _skip_late_callbacks(unraisable: "sys.UnraisableHookArgs") -> None:
  """Reports errors that cannot be raised, except those of ended writes."""
  if str(unraisable.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(unraisable)


def line(error: BaseException) -> str | None:
  """What to say about a fault, in one line; None for any other error."""
  if isinstance(error, RunFolderError):
    return " ".join(str(error).split())
  if isinstance(error, OSError):
    return io_faults.line(error)
  number = io_faults.code(error)
  return None if number is None else os.strerror(number)


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
  """Ends this process if the body ends by a fault, or cannot print.

  Yields:
    Nothing.
  """
  with _named_output():
    try:
      yield
      _flush()
    except SystemExit:
      try:
        _flush()
      except OSError as error:
        _end(error)
      raise
    except Exception as error:
      if line(error) is None:
        raise
      _end(error)


class _Output(io.FileIO):
  """Standard output, named in its errors, which Python does not do."""

  def write(self, data: Any, /) -> int:
    """Writes bytes."""
    with io_faults.named("standard output"):
      return super().write(data)


@contextlib.contextmanager
def _named_output() -> Iterator[None]:
  """Prints to an `_Output`, if standard output is a file of the system."""
  before = sys.stdout
  if type(before) is io.TextIOWrapper:
    sys.stdout = io.TextIOWrapper(
      io.BufferedWriter(_Output(before.fileno(), "w", closefd=False)),
      before.encoding,
      before.errors,
      line_buffering=before.line_buffering,
    )
  try:
    yield
  finally:
    sys.stdout = before


def _flush() -> None:
  """Prints what is left; Python itself would do so with a traceback."""
  if sys.stdout is not None:
    sys.stdout.flush()


def _end(error: Exception) -> NoReturn:
  """Prints the line, and ends without waiting for threads that write."""
  with contextlib.suppress(OSError):
    _flush()
  with contextlib.suppress(OSError):
    print(line(error), file=sys.stderr, flush=True)
  os._exit(BAD_INPUT if isinstance(error, RunFolderError) else FAILED)
