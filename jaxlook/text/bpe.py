"""Training a byte-level BPE on the corpus that it will cut."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

from jaxlook.errors import SettingError
from jaxlook.runs.atomic_files import write_bytes
from jaxlook.text.corpus import open_source, read_text, source_state
from jaxlook.text.tokenizer import Tokenizer, load_tokenizer, split_pieces

_FORMAT = 1  # Raise it when the tokenizer of a given text changes.
_BYTES = 256


def train_bpe(
  path: str | os.PathLike[str],
  cache_dir: str | os.PathLike[str],
  vocab_size: int,
) -> Tokenizer:
  """Trains byte-level BPE on a text, or finds it under `cache_dir`.

  Every byte is a token, so that any text can be spelled; the others are merges
  by frequency inside the words of GPT-2's pre-tokeniser. The file is found
  again as `jaxlook.text.corpus.tokenize` finds its own.

  Args:
    path: the text; see `jaxlook.text.corpus.read_text`.
    cache_dir: where the tokenizer's file goes; made if missing.
    vocab_size: number of tokens, at least 257; fewer where the text has no
      more merges to offer.

  Returns:
    The tokenizer, by the name `bpe:N`.

  Raises:
    FileNotFoundError: the text is missing.
    SettingError: the size is out of range.
    ValueError: the text is refused.
    ImportError: the extra `text` is not installed.
  """
  if vocab_size <= _BYTES:
    raise SettingError(
      "vocab_size", f"must be more than {_BYTES}, not {vocab_size}"
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
      split_pieces(read_text(source)),
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
  """Finds a tokenizer that `train_bpe` made, without its text.

  Args:
    cache_dir: where it was put.
    name: `bpe:N`.
    sha256: its hash.

  Returns:
    The tokenizer.

  Raises:
    FileNotFoundError: it is not there.
  """
  size = int(name.partition(":")[2])
  for file in sorted(Path(cache_dir).glob(f"bpe-{size}-*.json")):
    found = _named(file, size)
    if found.sha256 == sha256:
      return found
  raise FileNotFoundError(
    f"{cache_dir} holds no {name} tokenizer of hash {sha256[:12]}"
  )


def _named(file: Path, size: int) -> Tokenizer:
  return dataclasses.replace(load_tokenizer(file), name=f"bpe:{size}")
