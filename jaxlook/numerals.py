"""Numbers as they are written in flags, variants and meshes.

Python reads more than people mean: underscores, blanks, signs, the digits of
all scripts, and numbers that float32 rounds to 0 or to infinity.
"""

import re

import numpy as np

_WHOLE = re.compile(r"-?[0-9]+")
_REAL = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def read_whole(text: str) -> int:
  """Reads a whole number.

  Args:
    text: decimal digits, with a minus for a negative number.

  Returns:
    The number.

  Raises:
    ValueError: the text is anything else, or has thousands of digits.
  """
  if not _WHOLE.fullmatch(text):
    raise ValueError("must be a whole number")
  return int(text)


def read_real(text: str) -> float:
  """Reads a number that float32 can hold.

  Args:
    text: decimal digits, with point, exponent and minus as needed.

  Returns:
    The number, in the precision of Python.

  Raises:
    ValueError: the text is anything else, NaN or infinity; or float32 would
      make 0 of a number that is not 0, or infinity.
  """
  if not _REAL.fullmatch(text):
    raise ValueError("must be a number")
  value = float(text)
  with np.errstate(over="ignore", under="ignore"):
    held = np.float32(value)
  zero = not re.search("[1-9]", re.split("[eE]", text)[0])
  if not np.isfinite(held) or (held == 0.0) != zero:
    raise ValueError("must be a number that float32 can hold")
  return value


def counted(count: int, noun: str) -> str:
  """Returns a count and its noun, in the plural unless the count is 1.

  Args:
    count: how many there are.
    noun: in the singular; its plural ends in s.
  """
  return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
