"""Tokenizers: bytes, or whatever the package `tokenizers` can read.

Tokens do not depend on how a text is cut into chunks: it is cut again into
pieces, each starting at a line break that is followed by a non-space character,
and each piece is encoded alone. With GPT-2's pre-tokeniser such a cut lies
between two words, so that the tokens are those of the whole text encoded at
once.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

BYTES = "bytes"

_PIECE_START = re.compile(r"(?=\n\S)")
_MAX_PIECE = 1 << 16  # Characters; bounds memory on text without line breaks.
_Encode = Callable[[Iterable[str]], Iterator[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """What turns text into tokens.

  Attributes:
    name: `bytes`, or the path as given to `load_tokenizer`.
    vocab_size: number of token ids.
    sha256: hash of the tokenizer's files.
    encode: turns consecutive chunks of a text into arrays of token ids, 1-D;
      joined, they are the tokens of the text, wherever it was cut.
  """

  name: str
  vocab_size: int
  sha256: str
  encode: _Encode = dataclasses.field(repr=False)


def load_tokenizer(name: str | os.PathLike[str] = BYTES) -> Tokenizer:
  """Loads a tokenizer.

  Args:
    name: `bytes` (256 ids), or the path of a `tokenizers` JSON file, or a
      folder with `tokenizer.json` or with GPT-2's `vocab.json` and
      `merges.txt`. No special tokens are added. Anything but `bytes` needs
      the extra `text`.

  Returns:
    The tokenizer.

  Raises:
    FileNotFoundError: the path leads nowhere.
    ValueError: the files are no tokenizer.
    ImportError: the extra `text` is needed and not installed.
  """
  if name == BYTES:
    sha256 = hashlib.sha256(BYTES.encode()).hexdigest()
    return Tokenizer(BYTES, 256, sha256, _encode_bytes)
  files = _tokenizer_files(Path(name))
  sha256 = hashlib.sha256(b"".join(file.read_bytes() for file in files))
  vocab_size, encode = _load(files)
  return Tokenizer(str(name), vocab_size, sha256.hexdigest(), encode)


def _encode_bytes(texts: Iterable[str]) -> Iterator[np.ndarray]:
  return (np.frombuffer(text.encode(), np.uint8) for text in texts)


def _tokenizer_files(path: Path) -> list[Path]:
  if path.is_file():
    return [path]
  for names in (["tokenizer.json"], ["vocab.json", "merges.txt"]):
    if all((path / name).is_file() for name in names):
      return [path / name for name in names]
  if path.is_dir():
    raise ValueError(
      f"{path}: holds neither tokenizer.json nor vocab.json and merges.txt"
    )
  raise FileNotFoundError(f"{path}: no such tokenizer, and not `bytes`")


def _load(files: list[Path]) -> tuple[int, _Encode]:
  """Returns the vocabulary size and what turns texts into token ids."""
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
    vocab_size = max(model.get_vocab().values()) + 1
  except Exception as error:  # It raises nothing narrower.
    raise ValueError(f"{names[0]}: not a usable tokenizer: {error}") from error
  model.no_padding()
  model.no_truncation()

  def encode(texts: Iterable[str]) -> Iterator[np.ndarray]:
    for pieces in _pieces(texts):
      found = model.encode_batch_fast(pieces, add_special_tokens=False)
      ids = [token for encoding in found for token in encoding.ids]
      yield np.array(ids, np.uint32)

  return vocab_size, encode


def _pieces(texts: Iterable[str]) -> Iterator[list[str]]:
  """Cuts a stream into pieces that do not depend on where its parts end."""
  rest = ""
  for text in texts:
    *pieces, rest = _PIECE_START.split(rest + text)
    # The last piece may go on. Its full-length cuts stand already, but for a
    # final character that the next one may turn into a piece start.
    end = max(len(rest) - 1, 0) // _MAX_PIECE * _MAX_PIECE
    yield [cut for piece in [*pieces, rest[:end]] for cut in _cuts(piece)]
    rest = rest[end:]
  yield _cuts(rest)


def _cuts(piece: str) -> list[str]:
  starts = range(0, len(piece), _MAX_PIECE)
  return [piece[start : start + _MAX_PIECE] for start in starts]
