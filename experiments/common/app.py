"""What the binaries share at the edge: one-line refusals, signals, tables.

Bad input ends a binary with one line on stderr that names the flag and exit
status 2, before anything is compiled.
"""

import contextlib
import functools
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from absl import app, flags, logging
from rich import console, table

from experiments.common import multiprocess
from jaxlook.errors import SettingError
from jaxlook.training import multihost

_Number = TypeVar("_Number", int, float)

BAD_INPUT = 2


class UsageError(Exception):
  """Bad input, blamed on a flag."""

  def __init__(self, flag: str, message: str):
    """Keeps the flag's name, without dashes, and what is wrong with it."""
    super().__init__(f"--{flag}: {' '.join(message.split())}")


@contextlib.contextmanager
def blaming(flag: str) -> Iterator[None]:
  """Blames one flag for files, packages and texts that its value leads to.

  Args:
    flag: the flag whose value the body reads. Settings that the library
      refuses are not blamed on it: they carry their own name.

  Yields:
    Nothing.
  """
  try:
    yield
  except SettingError:
    raise
  except (ValueError, OSError, ImportError) as error:
    if multihost.lost(error):
      raise
    raise UsageError(flag, str(error)) from error


@contextlib.contextmanager
def mapping(**flag_names: str) -> Iterator[None]:
  """Blames flags for settings that have another name in the library.

  Args:
    **flag_names: by setting, the flag that it is from.

  Yields:
    Nothing.
  """
  try:
    yield
  except SettingError as error:
    if error.field not in flag_names:
      raise
    raise UsageError(flag_names[error.field], error.message) from error


def numbers(
  flag: str, texts: Sequence[str], kind: Callable[[str], _Number]
) -> list[_Number]:
  """Reads the numbers of a flag that takes a list.

  Args:
    flag: the flag's name.
    texts: its value.
    kind: int or float.

  Returns:
    The numbers.

  Raises:
    UsageError: a text is no such number.
  """
  try:
    return [kind(text) for text in texts]
  except ValueError as error:
    name = "whole numbers" if kind is int else "numbers"
    raise UsageError(
      flag, f"must be {name}, not {','.join(texts)!r}"
    ) from error


@contextlib.contextmanager
def settings_of(module: str) -> Iterator[None]:
  """Blames the flag of its name for each setting that the library refuses.

  Args:
    module: name of the binary's module; a setting without a flag in it is
      a mistake of ours, and passes.

  Yields:
    Nothing.
  """
  try:
    yield
  except SettingError as error:
    if error.field not in read_by(module):
      raise
    raise UsageError(error.field, error.message) from error


def read_by(module: str) -> set[str]:
  """The flags that a binary reads.

  Args:
    module: name of the binary's module.

  Returns:
    Their names, without dashes.
  """
  # absl keeps the flags of the module that runs under the program's name.
  return {
    flag.name
    for name in (module, sys.argv[0])
    for flag in flags.FLAGS.get_key_flags_for_module(name)
  }


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
  taken = read_by(main)
  for module, defined in flags.FLAGS.flags_by_module_dict().items():
    for flag in defined if module.startswith("experiments.") else ():
      if flag.present and flag.name not in taken:
        _refuse(f"--{flag.name}: has no effect on this binary; see --help")
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
      with settings_of(main.__module__):
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


def refuse_flags(*holders: flags.FlagHolder, why: str) -> None:
  """Refuses flags that have no effect on a binary.

  Args:
    *holders: the flags; their default is no value.
    why: what decides instead.

  Raises:
    UsageError: one of the flags is given.
  """
  for holder in holders:
    if holder.value != holder.default:
      raise UsageError(holder.name, f"has no effect here: {why}")


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
