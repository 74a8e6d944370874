"""Tokens as text: every byte is seen, and no character is hidden.

A token may hold a part of a character only, or one that would not show.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np


def readable(piece: bytes) -> str:
  """A token as text: what is no character, or cannot be seen, in hexadecimal.

  Args:
    piece: the token's bytes; UTF-8, perhaps cut within a character.

  Returns:
    The text; bytes that are not UTF-8 as ⟨C3⟩, control and format characters
    as ⟨200D⟩. Spaces, tabs and line breaks stay.
  """

  def shown(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # What surrogateescape makes of a byte.
      return f"⟨{code - 0xDC00:02X}⟩"
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs")
    return f"⟨{code:02X}⟩" if hidden and character not in "\n\t" else character

  return "".join(map(shown, piece.decode("utf-8", "surrogateescape")))


def parts(pieces: Sequence[bytes]) -> dict[str, str]:
  """The characters of which tokens hold only a part.

  Args:
    pieces: the bytes of consecutive tokens.

  Returns:
    By a token's place, written as JSON has its keys, the whole characters that
    its bytes belong to; only of tokens that are no text by themselves.
  """
  text = b"".join(pieces).decode("utf-8", "surrogateescape")
  sizes = [len(each.encode("utf-8", "surrogateescape")) for each in text]
  owner = np.repeat(np.arange(len(text)), sizes)
  found, start = {}, 0
  for place, piece in enumerate(pieces):
    try:
      piece.decode("utf-8")
    except UnicodeDecodeError:
      first, last = owner[start], owner[start + len(piece) - 1]
      whole = text[first : last + 1].encode("utf-8", "surrogateescape")
      found[str(place)] = readable(whole)
    start += len(piece)
  return found
