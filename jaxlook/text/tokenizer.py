"""Tokenizers: bytes, or a file of the package `tokenizers`.

Tokens do not depend on the chunks in which a text arrives. The text is cut into
pieces that start at a line break before a non-space character, and each piece
is encoded separately. With GPT-2's pre-tokenizer such a cut is between two
words, so the tokens equal those of the whole text encoded at once.
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

BYTES = "bytes"

_PIECE_START = re.compile(r"(?=\n\S)")
_MAX_PIECE = 1 << 16  # Characters; bounds memory on text without line breaks.


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
    show: maps each token to text for a reader. A token that is part of a
      character is shown by its bytes, such as `<C3>`.
  """

  name: str
  vocab_size: int
  sha256: str
  encode_pieces: EncodePieces = dataclasses.field(repr=False)
  show: _Show = dataclasses.field(repr=False)

  def encode(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
    """Turns consecutive chunks of a text into token ids.

    Args:
      texts: the chunks.

    Yields:
      1-D arrays of ids; concatenated, they are the tokens of the text for any
      chunks.
    """
    for pieces in split_pieces(texts):
      yield self.encode_pieces(pieces)[0]


def load_tokenizer(name: str | os.PathLike[str] = BYTES) -> Tokenizer:
  """Loads a tokenizer.

  Args:
    name: `bytes` (256 ids), the path of a `tokenizers` JSON file, or a folder
      with `tokenizer.json` or with GPT-2's `vocab.json` and `merges.txt`. No
      special tokens are added. All but `bytes` need the extra `text`.

  Returns:
    The tokenizer.

  Raises:
    FileNotFoundError: the path does not exist.
    ValueError: the files are not a tokenizer.
    ImportError: the extra `text` is needed and not installed.
  """
  if name == BYTES:
    sha256 = hashlib.sha256(BYTES.encode()).hexdigest()
    return Tokenizer(BYTES, 256, sha256, _encode_bytes, _show_bytes)
  files = _tokenizer_files(Path(name))
  sha256 = hashlib.sha256(b"".join(file.read_bytes() for file in files))
  return Tokenizer(str(name), *_load(files, sha256.hexdigest()))


def _encode_bytes(pieces: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  data = [piece.encode() for piece in pieces]
  counts = np.array([len(each) for each in data], np.int64)
  return np.frombuffer(b"".join(data), np.uint8), counts


def _encode_with(
  model: Any, pieces: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
  """Encodes with a `tokenizers.Tokenizer`."""
  encodings = model.encode_batch_fast(list(pieces), add_special_tokens=False)
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


def _tokenizer_files(path: Path) -> list[Path]:
  if path.is_file():
    return [path]
  for names in (["tokenizer.json"], ["vocab.json", "merges.txt"]):
    if all((path / name).is_file() for name in names):
      return [path / name for name in names]
  if path.is_dir():
    raise ValueError(
      f"{path}: has neither tokenizer.json nor vocab.json and merges.txt"
    )
  raise FileNotFoundError(f"{path}: no such tokenizer; give a path or `bytes`")


def _load(
  files: list[Path], sha256: str
) -> tuple[int, str, EncodePieces, _Show]:
  """Returns the fields of a `Tokenizer`, except its name."""
  try:
    import tokenizers
  except ImportError as error:
    raise ImportError(
      "BPE needs tokenizers: pip install jaxlook[text]"
    ) from error
  names = [str(file) for file in files]
  try:
    if len(names) == 1:
      model = tokenizers.Tokenizer.from_file(*names)
    else:
      model = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*names))
      model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False
      )
      model.decoder = tokenizers.decoders.ByteLevel()
    vocab_size = max(model.get_vocab().values()) + 1
  except Exception as error:  # The package raises plain Exception.
    raise ValueError(f"{names[0]}: not a usable tokenizer: {error}") from error
  model.no_padding()
  model.no_truncation()

  def show_one(token: int) -> str:
    text = model.decode([token], skip_special_tokens=False)
    spelled = model.id_to_token(token) or ""
    # Decoding writes U+FFFD for bytes that are not a whole character.
    if "\ufffd" in text and all(char in _BYTE_OF for char in spelled):
      return _text(bytes(_BYTE_OF[char] for char in spelled))
    return text

  def show(ids: Sequence[int]) -> list[str]:
    return [show_one(int(token)) for token in ids]

  encode_pieces = functools.partial(_encode_with, model)
  return vocab_size, sha256, encode_pieces, show


def split_pieces(texts: Iterable[str]) -> Iterator[list[str]]:
  """Cuts a stream into pieces that do not depend on its parts.

  Args:
    texts: consecutive parts of a text.

  Yields:
    Pieces of at most `_MAX_PIECE` characters, in order.
  """
  rest = ""
  for text in texts:
    *pieces, rest = _PIECE_START.split(rest + text)
    # The last piece may continue. Its full-length cuts are final, except for
    # its last character, which may start a piece once the next one is known.
    end = max(len(rest) - 1, 0) // _MAX_PIECE * _MAX_PIECE
    yield [cut for piece in [*pieces, rest[:end]] for cut in _cuts(piece)]
    rest = rest[end:]
  yield _cuts(rest)


def _cuts(piece: str) -> list[str]:
  starts = range(0, len(piece), _MAX_PIECE)
  return [piece[start : start + _MAX_PIECE] for start in starts]
