"""Trains a byte-level BPE tokenizer on a text."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

from jaxlook import numerals
from jaxlook.errors import SettingError
from jaxlook.machine import check_fits
from jaxlook.runs.atomic_files import write_bytes
from jaxlook.text.corpus import open_source, read_text, source_state
from jaxlook.text.pieces import GPT2_CUT, split_pieces
from jaxlook.text.tokenizer import Tokenizer, load_tokenizer

_FORMAT = 2  # Raise it when the tokenizer of a given text changes.
_PREFIX = "bpe:"
_BYTES = 256
_TRAINED_BYTES = 64  # A token of the vocabulary takes more in training.


def bpe_size(name: str) -> int | None:
  """Reads the size of a tokenizer that `train_bpe` trains.

  Args:
    name: of a tokenizer.

  Returns:
    N if the name is `bpe:N`; None for other names.

  Raises:
    ValueError: N is not a whole number.
  """
  if not name.startswith(_PREFIX):
    return None
  try:
    return numerals.read_whole(name.removeprefix(_PREFIX))
  except ValueError as error:
    raise ValueError(f"bpe:N needs N, which {error}") from error


def train_bpe(
  path: str | os.PathLike[str],
  cache_dir: str | os.PathLike[str],
  vocab_size: int,
) -> Tokenizer:
  """Trains byte-level BPE on a text, or loads it from `cache_dir`.

  Every byte is a token, so every text can be encoded. The other tokens are
  merges by frequency inside the words of GPT-2's pre-tokenizer. The cached file
  is identified by the text's path, sizes and modification times.

  Args:
    path: the text; see `jaxlook.text.corpus.read_text`.
    cache_dir: folder of the tokenizer's file; created if missing.
    vocab_size: number of tokens, at least 257; fewer if the text has too few
      merges.

  Returns:
    The tokenizer, with the name `bpe:N`.

  Raises:
    FileNotFoundError: the text is missing.
    SettingError: the size is out of range.
    ValueError: the text cannot be read.
    ImportError: the extra `text` is not installed.
  """
  if vocab_size <= _BYTES:
    raise SettingError(
      "vocab_size", f"must be above {_BYTES} for a BPE, not {vocab_size}"
    )
  # Above, the package ends the whole process.
  check_fits(
    "vocab_size",
    _TRAINED_BYTES * vocab_size,
    f"training a BPE of {vocab_size} tokens",
  )
  try:
    import tokenizers
  except ImportError as error:
    raise ImportError(
      "BPE needs tokenizers: pip install jaxlook[text]"
    ) from error
  source = open_source(path)
  key = json.dumps([_FORMAT, str(source), source_state(source)])
  digest = hashlib.sha256(key.encode()).hexdigest()[:20]
  target = Path(cache_dir) / f"bpe-{vocab_size}-{digest}.json"
  if not target.exists():
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False
    )
    model.decoder = tokenizers.decoders.ByteLevel()
    model.train_from_iterator(
      split_pieces(read_text(source), GPT2_CUT),
      tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
      ),
    )
    write_bytes(target, model.to_str().encode())
  return _named(target, vocab_size)


def find_bpe(
  cache_dir: str | os.PathLike[str], name: str, sha256: str
) -> Tokenizer:
  """Finds a tokenizer that `train_bpe` has trained, without its text.

  Args:
    cache_dir: the folder given to `train_bpe`.
    name: `bpe:N`.
    sha256: the tokenizer's hash.

  Returns:
    The tokenizer.

  Raises:
    FileNotFoundError: the folder has no such tokenizer.
    ValueError: the name is not `bpe:N`.
  """
  size = bpe_size(name)
  if size is None:
    raise ValueError(f"{name} is not bpe:N")
  for file in sorted(Path(cache_dir).glob(f"bpe-{size}-*.json")):
    tokenizer = _named(file, size)
    if tokenizer.sha256 == sha256:
      return tokenizer
  raise FileNotFoundError(
    f"{cache_dir} has no {name} tokenizer with hash {sha256[:12]}"
  )


def _named(file: Path, size: int) -> Tokenizer:
  return dataclasses.replace(load_tokenizer(file), name=f"bpe:{size}")
