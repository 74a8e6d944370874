"""What the binaries share at the edge: one-line refusals, signals, progress.

Bad input ends a binary with one line on stderr that names the flag and exit
status 2, before anything is compiled.
"""

import contextlib
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from absl import app, flags, logging
from rich import console, progress, table

from experiments import distributed
from jaxlook.training import processes

BAD_INPUT = 2


class UsageError(Exception):
  """Bad input, blamed on a flag."""

  def __init__(self, flag: str, message: str):
    """Keeps the flag's name, without dashes, and what is wrong with it."""
    super().__init__(f"--{flag}: {' '.join(message.split())}")


@contextlib.contextmanager
def naming(*flag_names: str) -> Iterator[None]:
  """Blames a flag for what the body raises because of its value.

  Args:
    *flag_names: the flags whose values the body reads. The library's messages
      begin with the name of the field at fault, so the flag of that name is
      blamed, and the first one where there is none.

  Yields:
    Nothing.
  """
  try:
    yield
  except (ValueError, OSError, ImportError) as error:
    if processes.lost(error):
      raise
    field = re.match(r"\w*", str(error))
    named = field.group() if field else ""
    flag = named if named in flag_names else flag_names[0]
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
  # A module that a binary shares with others may define flags of theirs.
  taken = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(argv[0])}
  for module, defined in flags.FLAGS.flags_by_module_dict().items():
    for flag in defined if module.startswith("experiments.") else ():
      if flag.present and flag.name not in taken:
        _refuse(f"--{flag.name}: is of no use here; see --help")
  return rest


def run(main: Callable[[], None], *, trains: bool = True) -> None:
  """Parses flags, runs a binary's main, and turns refusals into one line.

  Args:
    main: the binary's.
    trains: whether main may run in several processes: it trains by
      `ablating.train`, or takes its models from `studying.subjects`.
  """

  def guarded(_: Sequence[str]) -> None:
    # Orbax narrates every file that it writes.
    logging.set_verbosity(logging.ERROR)
    try:
      with naming("distributed"):
        distributed.join(trains)
      main()
    except UsageError as error:
      _refuse(str(error))
    except KeyboardInterrupt:
      sys.exit(128 + signal.SIGINT)
    except Exception as error:
      distributed.end(error)
      raise

  app.run(guarded, flags_parser=_parse_flags)


def print_table(title: str, rows: list[list[str]]) -> None:
  """Prints a header and rows, wrapped to the terminal's width."""
  shown = table.Table(*rows[0], title=title, title_justify="left")
  for row in rows[1:]:
    shown.add_row(*row)
  wide = console.Console()
  # Off a terminal nothing wraps, so that the lines can be searched.
  if not wide.is_terminal:
    wide = console.Console(width=200)
  wide.print(shown, markup=False)


class Stop:
  """Remembers that SIGTERM or SIGINT has come.

  `status` is 0 until then, and from then on the exit status that says which. A
  second signal ends the process at once, as it would without this.
  """

  def __init__(self):
    """Installs the handlers."""
    self.status = 0
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self._remember)

  def _remember(self, number, _frame) -> None:
    self.status = 128 + number
    signal.signal(number, signal.SIG_DFL)

  def __call__(self) -> bool:
    """Whether a signal has come."""
    return self.status != 0


class Progress:
  """Progress over all arms: a bar with time left, or plain lines.

  Plain lines appear on anything that is not a terminal, at most one every
  `_SECONDS` seconds. The time left comes from the time between reports of the
  same arm, so that compiling, and arms that an earlier run has trained, do not
  distort it. Of arms that are trained at the same time, `at_a_time` says how
  many there are.
  """

  _SECONDS = 15.0
  at_a_time = 1

  def __init__(self, total_steps: int, total_cost: float | None = None):
    """Starts at nothing done.

    Args:
      total_steps: of all arms.
      total_cost: of all steps, and of what else the time left should count, in
        the unit of the arms' costs; one a step by default.
    """
    self._total, self._done = total_steps, 0
    self._cost_left = total_steps if total_cost is None else total_cost
    self._timed_cost, self._timed_seconds = 0.0, 0.0
    self._last_line = time.monotonic()
    self._bar = None
    if console.Console().is_terminal:
      self._bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
      )
      self._task = self._bar.add_task("", total=total_steps)
      self._bar.start()

  def arm(
    self, name: str, step_cost: float = 1.0
  ) -> Callable[[int, np.ndarray], None]:
    """The reporter of one arm, to be told its step count and losses [E].

    Args:
      name: the arm's.
      step_cost: of one of its steps, in any unit that all arms share.

    Returns:
      The reporter.
    """
    before, last = None, 0

    def report(step: int, losses: np.ndarray) -> None:
      nonlocal before, last
      now = time.monotonic()
      if before is not None:
        self._timed_seconds += now - before
        self._timed_cost += step_cost * (step - last)
      finite = losses[np.isfinite(losses)]
      mean = f"{finite.mean():.4g}" if finite.size else "diverged"
      self._cost_left -= step_cost * (step - last)
      self._advance(f"{name}, step {step}, loss {mean}", step - last)
      before, last = now, step

    return report

  def _advance(self, status: str, steps: int) -> None:
    self._done += steps
    if self._timed_cost:
      rate = self._timed_seconds / self._timed_cost
      left = round(rate * self._cost_left / self.at_a_time)
      status += f", {left // 60} min {left % 60:02d} s left"
    if self._bar is not None:
      self._bar.update(self._task, advance=steps, description=status)
      return
    now = time.monotonic()
    if now - self._last_line >= self._SECONDS or self._done == self._total:
      self._last_line = now
      print(f"{self._done}/{self._total} steps: {status}", flush=True)

  def close(self) -> None:
    """Leaves the terminal as it was."""
    if self._bar is not None:
      self._bar.stop()
