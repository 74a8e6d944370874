"""Tokenizers: bytes, or a file of the package `tokenizers`.

Tokens are those of the whole text, encoded at once without special tokens,
however the text arrives. Where the tokenizer allows it, a text is cut into
pieces that give the same tokens; see `jaxlook.text.pieces`.
"""

import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxlook.text.pieces import ANYWHERE, safe_cut, split_pieces
from jaxlook.text.tokenizer_files import load_model

BYTES = "bytes"

_BYTE_FALLBACK = re.compile("<0x([0-9A-F]{2})>")


def _byte_level() -> dict[str, int]:
  """Maps the characters of a byte-level BPE to bytes, as in GPT-2."""
  printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [byte for byte in range(256) if byte not in printed]
  return {chr(byte): byte for byte in printed} | {
    chr(256 + n): byte for n, byte in enumerate(others)
  }


_BYTE_OF = _byte_level()
EncodePieces = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]
_Show = Callable[[Sequence[int]], list[str]]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """Turns text into tokens.

  Attributes:
    name: `bytes`, the path as given to `load_tokenizer`, or `bpe:N`.
    vocab_size: number of token ids.
    sha256: hash of the tokenizer's files.
    encode_pieces: maps the pieces of `split_pieces`, encoded separately, to
      all token ids, [n], and the number of tokens per piece, int64 [pieces].
      It can be sent to another process.
    show: maps each token to text for a reader, as it reads after other tokens:
      with the space before a word. A token that is part of a character is
      shown by its bytes, such as `<C3>`.
    cut: where `split_pieces` may cut a text; None for nowhere.
  """

  name: str
  vocab_size: int
  sha256: str
  encode_pieces: EncodePieces = dataclasses.field(repr=False)
  show: _Show = dataclasses.field(repr=False)
  cut: re.Pattern[str] | None = dataclasses.field(repr=False)

  def encode(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
    """Turns consecutive chunks of a text into token ids.

    Args:
      texts: the chunks.

    Yields:
      1-D arrays of ids; concatenated, they are the tokens of the text for any
      chunks.
    """
    for pieces in split_pieces(texts, self.cut):
      yield self.encode_pieces(pieces)[0]


def load_tokenizer(name: str | os.PathLike[str] = BYTES) -> Tokenizer:
  """Loads a tokenizer.

  Args:
    name: `bytes` (256 ids), the path of a `tokenizers` JSON file, or a folder
      with `tokenizer.json` or with GPT-2's `vocab.json` and `merges.txt`; see
      `load_model`. No special tokens are put around a text. All but `bytes`
      need the extra `text`.

  Returns:
    The tokenizer.

  Raises:
    FileNotFoundError: the path does not exist.
    ValueError: the files are not a tokenizer.
    ImportError: the extra `text` is needed and not installed.
  """
  if name == BYTES:
    sha256 = hashlib.sha256(BYTES.encode()).hexdigest()
    return Tokenizer(BYTES, 256, sha256, _encode_bytes, _show_bytes, ANYWHERE)
  model, content = load_model(Path(name))
  cut = safe_cut(model)
  sha256 = hashlib.sha256(content)
  if cut is None or not cut.match("a\n", 1):
    # Once, such tokenizers gave other tokens: lines were encoded separately.
    sha256.update(b"whole")
  return Tokenizer(
    name=str(name),
    vocab_size=max(model.get_vocab().values()) + 1,
    sha256=sha256.hexdigest(),
    encode_pieces=functools.partial(_encode_with, model),
    show=functools.partial(_show_with, model),
    cut=cut,
  )


def _encode_bytes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  data = [text.encode() for text in texts]
  counts = np.array([len(each) for each in data], np.int64)
  return np.frombuffer(b"".join(data), np.uint8), counts


def _encode_with(
  model: Any, texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
  """Encodes with a `tokenizers.Tokenizer`."""
  encodings = model.encode_batch_fast(list(texts), add_special_tokens=False)
  ids = [token for encoding in encodings for token in encoding.ids]
  counts = np.array([len(encoding) for encoding in encodings], np.int64)
  return np.array(ids, np.uint32), counts


def _show_bytes(ids: Sequence[int]) -> list[str]:
  return [_text(bytes([token])) for token in ids]


def _text(data: bytes) -> str:
  try:
    return data.decode()
  except UnicodeDecodeError:
    return "".join(f"<{byte:02X}>" for byte in data)


def _show_with(model: Any, ids: Sequence[int]) -> list[str]:
  return [_show_one(model, int(token)) for token in ids]


def _show_one(model: Any, token: int) -> str:
  """Shows a token as it reads after another one."""
  spelled = model.id_to_token(token) or ""
  alone = model.decode([token], skip_special_tokens=False)
  # Decoding writes U+FFFD for bytes that are not a whole character.
  if "\ufffd" in alone:
    if byte := _BYTE_FALLBACK.fullmatch(spelled):
      return f"<{byte[1]}>"
    if all(char in _BYTE_OF for char in spelled):
      return _text(bytes(_BYTE_OF[char] for char in spelled))
  # Many decoders drop the space before a text's first word, or join the words
  # of a text by spaces.
  twice = model.decode([token, token], skip_special_tokens=False)
  if twice.startswith(alone) and len(twice) > len(alone):
    return twice[len(alone) :]
  return alone
