"""What the binaries share at the edge: one-line refusals, signals, tables.

Bad input ends a binary with one line on stderr that names the flag and exit
status 2, before anything is compiled.
"""

import contextlib
import functools
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from absl import app, flags, logging
from rich import console, table

from experiments.common import multiprocess
from jaxlook.training import multihost

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
    if multihost.lost(error):
      raise
    field = re.match(r"\w*", str(error))
    named = field.group() if field else ""
    flag = named if named in flag_names else flag_names[0]
    raise UsageError(flag, str(error)) from error


def _refuse(message: str) -> None:
  print(message, file=sys.stderr)
  sys.exit(BAD_INPUT)


def _parse_flags(main: str, argv: Sequence[str]) -> list[str]:
  """Parses flags of which those of the module `main` are taken."""
  try:
    rest = flags.FLAGS(list(argv))
  except flags.Error as error:
    _refuse(" ".join(str(error).split()))
    raise
  if len(rest) > 1:
    _refuse(f"unexpected argument {rest[1]!r}; every setting is a --flag")
  # A module that a binary shares with others may define flags of theirs.
  taken = {
    flag.name
    for module in (argv[0], main)
    for flag in flags.FLAGS.get_key_flags_for_module(module)
  }
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
      `train_arms.train_all`, or takes its models from `Study.subjects`.
  """

  def guarded(_: Sequence[str]) -> None:
    # Orbax narrates every file that it writes.
    logging.set_verbosity(logging.ERROR)
    try:
      with naming("distributed"):
        multiprocess.join(trains)
      main()
    except UsageError as error:
      _refuse(str(error))
    except KeyboardInterrupt:
      sys.exit(128 + signal.SIGINT)
    except Exception as error:
      multiprocess.end(error)
      raise

  parse = functools.partial(_parse_flags, main.__module__)
  app.run(guarded, flags_parser=parse)


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
