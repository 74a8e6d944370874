"""What `--help` prints: the binary's docstring, and the flags that it reads.

Not a binary.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

_COLUMNS = 80
_INDENT = 24


def page(
  about: str,
  own: Sequence[flags.Flag],
  shared: Mapping[str, Sequence[flags.Flag]],
  values: Mapping[str, Any],
  says: Mapping[str, str],
) -> str:
  """The text of `--help`.

  Args:
    about: the binary's docstring.
    own: the flags of the binary alone.
    shared: those that other binaries have, too, by purpose.
    values: what the chosen preset says, by flag.
    says: what a flag means here, where it is not what its declaration says.

  Returns:
    Lines of at most 80 columns.
  """
  groups = {"Flags of this binary": own, **shared}
  parts = [about.strip()]
  for title, members in groups.items():
    if members:
      lines = [_entry(flag, values, says) for flag in members]
      parts.append("\n".join([f"{title}:", *lines]))
  return "\n\n".join(parts)


def _entry(
  flag: flags.Flag, values: Mapping[str, Any], says: Mapping[str, str]
) -> str:
  """A flag with its meaning and its default."""
  text = _meaning(flag, says)
  default = values.get(flag.name)
  if default is None:
    default = flag.default
  if default is not None:
    # In place of the default that the text names.
    text = f"{text.partition(' [')[0]} [{_shown(default, flag)}]"
  head = f"  --[no]{flag.name}" if flag.boolean else f"  --{flag.name}"
  indent = " " * _INDENT
  lines = textwrap.fill(
    text,
    _COLUMNS,
    initial_indent=indent,
    subsequent_indent=indent,
    break_on_hyphens=False,
  )
  if len(head) + 2 > _INDENT:
    return f"{head}\n{lines}"
  return f"{head:{_INDENT}}{lines[_INDENT:]}"


def _meaning(flag: flags.Flag, says: Mapping[str, str]) -> str:
  """What a flag means, and which values it takes if they are few."""
  choices = getattr(flag.parser, "enum_values", ())
  if flag.name in says:
    text = says[flag.name]
  else:
    # Without what absl adds to the declared text.
    text = (flag.help or "").removeprefix(f"<{'|'.join(choices)}>: ")
    text = text.partition(";\n")[0]
  if all(choice in text for choice in choices):
    return text
  text, bracket, rest = text.partition(" [")
  return f"{text} One of {', '.join(choices)}.{bracket}{rest}"


def _shown(value: Any, flag: flags.Flag) -> str:
  """A default as it is written on the command line."""
  if isinstance(value, (tuple, list)):
    # A comma within a value of a repeated flag has a meaning of its own.
    between = "; " if isinstance(flag, flags.MultiFlag) else ","
    return between.join(_shown(each, flag) for each in value)
  if isinstance(value, bool):
    return str(value).lower()
  return f"{value:g}" if isinstance(value, float) else str(value)
