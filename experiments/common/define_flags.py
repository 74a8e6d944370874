"""Flags that take what they say, and nothing else.

Not a binary. absl's own flags take `1_000` for 1000 and `nan` for a number, and
leave it to each reader to notice that a value is empty. Each function here
declares a flag, as absl's functions of similar names do.
"""

import os
from collections.abc import Sequence
from typing import Any

from absl import flags

from jaxlook import numerals

Whole = flags.FlagHolder[int | None]
Text = flags.FlagHolder[str | None]
Texts = flags.FlagHolder[list[str] | None]


_EMPTY = "is empty; leave the flag out or give a value"


class _Whole(flags.IntegerParser):
  def convert(self, argument: int | str) -> int:
    if isinstance(argument, str):
      argument = numerals.read_whole(argument)
    return super().convert(argument)


class _Real(flags.FloatParser):
  def convert(self, argument: int | float | str) -> float:
    if isinstance(argument, str):
      argument = numerals.read_real(argument)
    return super().convert(argument)


class _Text(flags.ArgumentParser[str]):
  def parse(self, argument: str) -> str:
    if not argument.strip():
      raise ValueError(_EMPTY)
    return argument


class _Path(_Text):
  def parse(self, argument: str) -> str:
    path = expand_home(super().parse(argument))
    if "\0" in path:
      raise ValueError("must have no NUL character")
    return path


class _List(flags.ListParser):
  def parse(self, argument: Any) -> list[str]:
    found = super().parse(argument)
    if not found:
      raise ValueError(_EMPTY)
    if not all(found):
      raise ValueError("must be values with a comma between two of them")
    return found


def expand_home(path: str) -> str:
  """Puts the home folder in the place of a leading `~`.

  Args:
    path: of a file or folder.

  Returns:
    The path, the same if it does not begin with `~`.

  Raises:
    ValueError: there is no such home folder; a folder named `~` is never meant.
  """
  found = os.path.expanduser(path)
  if found.startswith("~"):
    raise ValueError(
      f"{path} needs a home folder, and there is none; set HOME, or give a path"
      " without ~"
    )
  return found


def whole(
  name: str,
  default: int | None,
  about: str,
  lower_bound: int | None = None,
  upper_bound: int | None = None,
) -> Whole:
  """Declares a flag that takes a whole number."""
  return flags.DEFINE(
    _Whole(lower_bound, upper_bound), name, default, about, serializer=_plain
  )


def wholes(name: str, default: Sequence[int] | None, about: str) -> Any:
  """Declares a flag that takes whole numbers, one each time it is given."""
  return flags.DEFINE_multi(_Whole(), _plain, name, default, about)


def real(name: str, default: float | None, about: str) -> Any:
  """Declares a flag that takes a number."""
  return flags.DEFINE(_Real(), name, default, about, serializer=_plain)


def text(name: str, default: str | None, about: str) -> Text:
  """Declares a flag that takes text, and not none."""
  return flags.DEFINE(_Text(), name, default, about, serializer=_plain)


def texts(name: str, default: Sequence[str] | None, about: str) -> Texts:
  """Declares a flag that takes text each time it is given."""
  return flags.DEFINE_multi(_Text(), _plain, name, default, about)


def values(name: str, default: Sequence[str] | None, about: str) -> Texts:
  """Declares a flag that takes texts with commas between them."""
  return flags.DEFINE(
    _List(), name, default, about, serializer=flags.CsvListSerializer(",")
  )


def path(name: str, default: str | None, about: str) -> Text:
  """Declares a flag that takes a path, in which `~` is the home folder."""
  return flags.DEFINE(_Path(), name, default, about, serializer=_plain)


def paths(name: str, default: Sequence[str] | None, about: str) -> Texts:
  """Declares a flag that takes a path each time it is given."""
  return flags.DEFINE_multi(_Path(), _plain, name, default, about)


_plain = flags.ArgumentSerializer()
# A flag belongs to the module that calls a function of this one.
flags.disclaim_key_flags()
