"""What the binaries share at the edge: one-line refusals, signals, tables.

Bad input ends a binary with one line on stderr that names the flag and exit
status 2, before anything is compiled. Faults of the machine end it with exit
status 1; see `experiments.common.faults`.
"""

import contextlib
import functools
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from absl import app, flags
from rich import console, table

from experiments.common import faults, help_page, multiprocess, shared_flags
from jaxlook import numerals
from jaxlook.errors import SettingError
from jaxlook.runs import io_faults
from jaxlook.training import multihost

_T = TypeVar("_T")
_Number = TypeVar("_Number", int, float)

BAD_INPUT = faults.BAD_INPUT
_HELP = ("--help", "-help", "--helpshort", "-helpshort", "-h", "-?")


# What absl says of a command line, and the plain form.
_UNKNOWN = re.compile(
  r"Unknown command line flag '([^']*)'(?:\. Did you mean: (\S+).*)?"
)
_NO_VALUE = re.compile(r"Missing value for flag (--\S+)")
_NO_FLAG_FILE = re.compile(
  r"ERROR:: Unable to open flagfile: (?:\[.*?\] )?(.*)"
)
# What a line shows of a value.
_SHOWN = 100
_PLAIN = (
  # Of absl's own flags.
  (r"invalid literal for int.*", "must be a whole number"),
  (r"Exceeds the limit .* for integer string .*", "has too many digits"),
  (r"\('Non-boolean argument to boolean flag', .*", "must be true or false"),
  (r"value should be one of <(.*)>", r"must be one of \1"),
  (r"(.*) is not (?:an )?(?:integer|number) >= (.*)", r"must be at least \2"),
  (r".* is not an integer in the range \[(.*), (.*)\]", r"must lie in \1..\2"),
)


class UsageError(Exception):
  """Bad input, blamed on a flag, or on arguments that are not flags.

  Attributes:
    message: what is wrong with the flag's value.
    status: the exit status of the binary.
  """

  def __init__(self, flag: str | None, message: str, status: int = BAD_INPUT):
    """Keeps the flag's name, without dashes, and what is wrong with it."""
    self.status = status
    self.message = " ".join(message.split())
    super().__init__(f"--{flag}: {self.message}" if flag else self.message)


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
    if multihost.is_lost_process(error):
      raise
    # What the library says of a fault of the machine has its cause.
    fault = error if isinstance(error, OSError) else error.__cause__
    raise UsageError(
      flag,
      faults.line(error) or str(error),
      faults.FAILED if io_faults.is_fault(fault) else BAD_INPUT,
    ) from error


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


def required(flag: flags.FlagHolder[_T | None]) -> _T:
  """The value of a flag that must be given.

  Raises:
    UsageError: it is not given, or empty.
  """
  if not flag.value:
    raise UsageError(flag.name, "is required")
  return flag.value


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
  read: Any = numerals.read_whole if kind is int else numerals.read_real
  try:
    return [read(text) for text in texts]
  except ValueError as error:
    name = "whole numbers" if kind is int else "numbers"
    raise UsageError(
      flag, f"must be {name}, not {shortened(','.join(texts))!r}"
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


def read_by(module: str) -> list[str]:
  """The flags that a binary reads.

  Args:
    module: name of the binary's module.

  Returns:
    Their names, without dashes, as they were declared.
  """
  return [flag.name for flag in flags.FLAGS.get_key_flags_for_module(module)]


def printable(name: str) -> str:
  """The name of a file as reports show it: any bytes may be in one."""
  return os.fsencode(name).decode("utf-8", "replace")


def shortened(text: str) -> str:
  """A value as a message shows it: long ones lose their middle."""
  if len(text) <= _SHOWN:
    return text
  return f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"


def _refuse(message: str, status: int = BAD_INPUT) -> None:
  print(message, file=sys.stderr)
  sys.exit(status)


def check_read(module: str, names: Iterable[str]) -> None:
  """Refuses flags that a binary does not read.

  Args:
    module: name of the binary's module.
    names: the flags that are given.

  Raises:
    UsageError: one would change nothing.
  """
  read = read_by(module)
  for name in names:
    if name not in read:
      raise UsageError(name, "has no effect on this binary; see --help")


def _plain(error: flags.Error) -> str:
  """One line of what absl says of a command line, without Python's words."""
  text = " ".join(str(error).split()).removeprefix("flag ")
  if unknown := _UNKNOWN.fullmatch(text):
    name, guesses = unknown.groups()
    hint = f"; did you mean --{guesses}?" if guesses else "; see --help"
    return f"--{name}: is not a flag of this binary{hint}"
  if missing := _NO_VALUE.fullmatch(text):
    return f"{missing[1]}: needs a value"
  if closed := _NO_FLAG_FILE.fullmatch(text):
    return f"--flagfile: cannot be read: {closed[1]}"
  flag, colon, said = text.partition(": ")
  for pattern, plain in _PLAIN:
    if found := re.fullmatch(pattern, said):
      said = found.expand(plain)
  return f"{shortened(flag)}{colon}{said}"


def _parse_flags(
  main: Callable[..., None],
  help_text: Callable[[], str],
  argv: Sequence[str],
  arguments: bool = False,
) -> list[str]:
  """Parses the flags that a binary reads, and answers `--help`."""
  asked = [word for word in argv[1:] if word in _HELP]
  if any(word.lstrip("-") == "flagfile=" for word in argv[1:]):
    _refuse("--flagfile: is empty; leave the flag out or give a file")
  said = io.StringIO()
  flags.FLAGS.set_gnu_getopt(arguments)  # Flags may then stand after them.
  try:
    with contextlib.redirect_stderr(said):
      rest = flags.FLAGS([word for word in argv if word not in asked])
  except flags.Error as error:
    _refuse(_plain(error))
    raise
  except UnicodeDecodeError as error:
    # absl reads files of flags as text, and nothing else before that.
    _refuse(f"--flagfile: is not a text file: {error.reason}")
    raise
  if "circular flagfile" in said.getvalue():
    _refuse("--flagfile: must name no file that names it in turn")
  if asked:
    # A pager that was closed is no error.
    with contextlib.suppress(BrokenPipeError):
      print(help_text(), flush=True)
      sys.exit(0)
    os._exit(0)
  if len(rest) > 1 and not arguments:
    _refuse(f"unexpected argument {rest[1]!r}; every setting is a --flag")
  # A module that a binary shares with others declares flags of theirs, too.
  given = [
    flag.name
    for module, declared in flags.FLAGS.flags_by_module_dict().items()
    for flag in declared
    if flag.present and module.startswith("experiments.")
  ]
  try:
    check_read(main.__module__, given)
  except UsageError as error:
    _refuse(str(error))
  return rest


def help_text(
  module: str, values: Mapping[str, Any], says: Mapping[str, str]
) -> str:
  """What `--help` of a binary prints.

  Args:
    module: name of the binary's module.
    values: what the chosen preset says, by flag.
    says: what a flag means here, where it is not what its declaration says.

  Returns:
    The module's docstring and the flags that it reads, its own first.
  """
  read = read_by(module)
  shared = {
    title: [flags.FLAGS[name] for name in names if name in read]
    for title, names in shared_flags.GROUPS.items()
  }
  known = {name for names in shared_flags.GROUPS.values() for name in names}
  own = [flags.FLAGS[name] for name in read if name not in known]
  about = sys.modules[module].__doc__ or ""
  return help_page.page(about, own, shared, values, says)


def _print_anything() -> None:
  """Lets text be printed that a terminal's encoding lacks, as escapes."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors="backslashreplace")


def run(
  main: Callable[..., None],
  values: Callable[[], Mapping[str, Any]] = dict,
  *,
  says: Mapping[str, str] | None = None,
  arguments: bool = False,
) -> None:
  """Parses flags, runs a binary's main, and turns refusals into one line.

  Args:
    main: the binary's.
    values: what the chosen preset says, by flag, for `--help`.
    says: what a flag means here, where it is not what its declaration says.
    arguments: whether main takes arguments without dashes; others refuse them.
  """

  def guarded(argv: Sequence[str]) -> None:
    faults.silence_libraries()
    try:
      with settings_of(main.__module__):
        multiprocess.join()
        main(*argv[1:])
    except UsageError as error:
      _refuse(str(error), error.status)
    except KeyboardInterrupt:
      sys.exit(128 + signal.SIGINT)
    except Exception as error:
      multiprocess.end(error)
      raise

  def shown() -> str:
    defaults = dict(values())
    if not says or "out" not in says:
      spec = sys.modules[main.__module__].__spec__
      name = spec.name.removeprefix("experiments.") if spec else "EXPERIMENT"
      defaults["out"] = f"runs/{name}-{shared_flags.PRESET.value}"
    return help_text(main.__module__, defaults, says or {})

  _print_anything()
  with faults.in_one_line():
    parse = functools.partial(_parse_flags, main, shown, arguments=arguments)
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


class Stop(contextlib.AbstractContextManager["Stop"]):
  """Remembers, as a context, that SIGTERM or SIGINT has come.

  `status` is 0 until then, and from then on the exit status that says which. A
  second signal ends the process at once, as any does after the context.
  """

  _NUMBERS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self):
    """Remembers nothing yet."""
    self.status = 0

  def __enter__(self) -> "Stop":
    """Installs the handlers."""
    self._before = [
      signal.signal(number, self._remember) for number in self._NUMBERS
    ]
    return self

  def __exit__(self, *_: object) -> None:
    """Installs the handlers of before."""
    for number, handler in zip(self._NUMBERS, self._before, strict=True):
      signal.signal(number, handler)

  def _remember(self, number, _frame) -> None:
    self.status = 128 + number
    signal.signal(number, signal.SIG_DFL)

  def __call__(self) -> bool:
    """Whether a signal has come."""
    return self.status != 0
