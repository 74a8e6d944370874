"""What the binaries share at the edge: one-line refusals, signals, progress.

Bad input ends a binary with one line on stderr that names the flag and exit
status 2, before anything is compiled.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from absl import app, flags, logging
from rich import console, progress

BAD_INPUT = 2
STOPPED = 128 + signal.SIGTERM


class UsageError(Exception):
  """Bad input, blamed on a flag."""

  def __init__(self, flag: str, message: str):
    """Keeps the flag's name, without dashes, and what is wrong with it."""
    super().__init__(f"--{flag}: {' '.join(message.split())}")


@contextlib.contextmanager
def naming(flag: str) -> Iterator[None]:
  """Blames a flag for what the body raises because of its value."""
  try:
    yield
  except (ValueError, OSError, ImportError) as error:
    raise UsageError(flag, str(error)) from error


def _refuse(message: str) -> None:
  print(message, file=sys.stderr)
  sys.exit(BAD_INPUT)


def _parse_flags(argv: Sequence[str]) -> list[str]:
  try:
    rest = flags.FLAGS(list(argv))
  except flags.Error as error:
    _refuse(" ".join(str(error).split()))
    raise
  if len(rest) > 1:
    _refuse(f"unexpected argument {rest[1]!r}; every setting is a --flag")
  if getattr(flags.FLAGS, "help", False):
    app.usage(shorthelp=True, writeto_stdout=True)
    sys.exit(0)
  return rest


def run(main: Callable[[], None]) -> None:
  """Parses flags, runs a binary's main, and turns refusals into one line."""

  def guarded(_: Sequence[str]) -> None:
    # Orbax narrates every file that it writes.
    logging.set_verbosity(logging.ERROR)
    try:
      main()
    except UsageError as error:
      _refuse(str(error))

  app.run(guarded, flags_parser=_parse_flags)


class Stop:
  """Remembers that SIGTERM or SIGINT has come; true from then on.

  A second signal ends the process at once, as it would without this.
  """

  def __init__(self):
    """Installs the handlers."""
    self.asked = False
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self._remember)

  def _remember(self, number, _frame) -> None:
    self.asked = True
    signal.signal(number, signal.SIG_DFL)

  def __call__(self) -> bool:
    """Whether a signal has come."""
    return self.asked


class Progress:
  """Progress over all arms: a bar with time left, or plain lines.

  Plain lines appear on anything that is not a terminal, at most one every
  `_SECONDS` seconds, with the time left at the rate so far.
  """

  _SECONDS = 15.0

  def __init__(self, total_steps: int):
    """Starts the clock; `total_steps` counts the steps of all arms."""
    self._total = total_steps
    self._done = self._skipped = 0
    self._start = self._last = time.monotonic()
    self._bar = None
    if console.Console().is_terminal:
      self._bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
      )
      self._task = self._bar.add_task("", total=total_steps)
      self._bar.start()

  def skip(self, arm: str, steps: int) -> None:
    """Counts steps that an earlier run has already made."""
    self._skipped += steps
    self.advance(arm, steps, "already done")

  def advance(self, arm: str, steps: int, status: str) -> None:
    """Counts steps just made, and says how the arm stands."""
    self._done += steps
    now = time.monotonic()
    if self._bar is not None:
      self._bar.update(
        self._task, advance=steps, description=f"{arm}  {status}"
      )
    elif now - self._last >= self._SECONDS or self._done == self._total:
      self._last = now
      made = self._done - self._skipped
      left = (now - self._start) / max(made, 1) * (self._total - self._done)
      print(
        f"{self._done}/{self._total} steps, {arm}: {status}, {left:.0f} s left",
        flush=True,
      )

  def close(self) -> None:
    """Leaves the terminal as it was."""
    if self._bar is not None:
      self._bar.stop()
