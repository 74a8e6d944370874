"""The text that a binary trains on: its flags, its tokens, what identifies it.

Not a binary. Without `--corpus` the text is generated from a small grammar.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jaxlook
from experiments.common import app, define_flags, shared_flags
from jaxlook import machine
from jaxlook.runs.atomic_files import write_bytes
from jaxlook.tasks.text import Text
from jaxlook.text import overlap
from jaxlook.text.bpe import bpe_size, find_bpe, train_bpe
from jaxlook.text.corpus import TokenFile, open_source, tokenize
from jaxlook.text.generated import generated_text
from jaxlook.text.tokenizer import Tokenizer, load_tokenizer
from jaxlook.training import multihost

_GENERATED_BYTES = 4_000_000
# A token of the vocabulary takes more: its count, and those of its pairs.
_TOKEN_BYTES = 64
_MOST_SHARED = 0.01  # Part of a held-out text; more of it is worth a warning.


def read_text(
  length: int,
  batch_size: int,
  *,
  tokenizer: str | None = None,
  tokenizer_from: str = "model",
  documents: bool = False,
  several: bool = False,
) -> Text:
  """Tokenises the text that the flags name, or a generated one.

  Args:
    length: of the windows, in tokens.
    batch_size: windows a step; the text must hold at least one batch.
    tokenizer: what to use without `--tokenizer`; bytes by default.
    tokenizer_from: the flag that `tokenizer` is from.
    documents: whether to keep documents apart even without `--documents`.
    several: whether `--valid` may name several texts; see `more_texts`.

  Returns:
    The text; the first text of `--valid` is held out.

  Raises:
    UsageError: a flag's value cannot be used.
  """
  documents = documents or shared_flags.DOCUMENTS.value
  held_out = shared_flags.VALID.value or []
  if len(held_out) > 1 and not several:
    raise app.UsageError("valid", f"must be one text, not {len(held_out)}")
  with app.blaming("cache"):
    write_bytes(_cache() / "writable", b"")

  named = shared_flags.TOKENIZER.value or tokenizer or "bytes"
  # Before a text is generated, so that a wrong value is refused at once.
  with blaming_tokenizer(tokenizer_from):
    trained = bpe_size(named)
    loaded = load_tokenizer(named if trained is None else "bytes")
    with app.mapping(vocab_size="tokenizer"):
      machine.check_fits(
        "vocab_size",
        _TOKEN_BYTES * loaded.vocab_size,
        f"a vocabulary of {loaded.vocab_size} tokens",
      )
  corpus = _corpus(held_out)
  if trained is not None:
    with app.mapping(vocab_size="tokenizer"), app.blaming("corpus"):
      loaded = train_bpe(corpus, _cache(), trained)

  train = _tokenized("corpus", corpus, loaded, documents)
  valid = None
  if held_out:
    valid = _tokenized("valid", held_out[0], loaded, documents)
    check_apart(corpus, train, held_out[0], valid)
  with app.mapping(train="corpus"), app.blaming("corpus"):
    text = Text(train, valid, length)
    text.windows(0, range(1), batch_size)
  return text


@contextlib.contextmanager
def blaming_tokenizer(flag: str) -> Iterator[None]:
  """Blames the flag that a tokenizer is from.

  Args:
    flag: where it is not `--tokenizer`, the flag whose folder should have one.

  Yields:
    Nothing.
  """
  if shared_flags.TOKENIZER.value is not None:
    flag = "tokenizer"
  try:
    with app.blaming(flag):
      yield
  except app.UsageError as error:
    if flag == "tokenizer":
      raise
    raise app.UsageError(
      flag, f"{error.message}; --tokenizer can name another"
    ) from error


def _cache() -> Path:
  path = shared_flags.CACHE.value or "~/.cache/jaxlook"
  return Path(define_flags.expand_home(path))


def _corpus(held_out: list[str]) -> str:
  """What `--corpus` names, or the file of the generated text."""
  if shared_flags.CORPUS.value is not None:
    return shared_flags.CORPUS.value
  if held_out:
    raise app.UsageError("valid", "needs --corpus, too")
  if shared_flags.PRESET.value == "paper":
    raise app.UsageError("corpus", "is required with --preset=paper")
  file = _cache() / f"generated-{jaxlook.__version__}-{_GENERATED_BYTES}.txt"
  if not file.exists():
    with app.blaming("cache"):
      write_bytes(file, generated_text(0, _GENERATED_BYTES).encode())
  return str(file)


def _tokenized(
  flag: str, path: str, tokenizer: Tokenizer, documents: bool
) -> TokenFile:
  """The tokens of a flag's text, from the cache if they are there."""
  workers = shared_flags.WORKERS.value
  if workers is None:
    workers = os.cpu_count() or 1
  with app.blaming(flag):
    if not path:
      raise ValueError("is empty; give a file or a folder")
    return tokenize(
      path, str(_cache()), tokenizer, documents=documents, workers=workers
    )


def more_texts(text: Text) -> dict[str, Text]:
  """The second and later texts of `--valid`, to evaluate on.

  Args:
    text: what is trained on, from `read_text`.

  Returns:
    By the name of each held-out text, the training text with that text held
    out.

  Raises:
    UsageError: a text cannot be read, or two have the same name.
  """
  tokenizer = tokenizer_of(about(text))
  documents = text.train.documents is not None
  found: dict[str, Text] = {}
  first, *more = shared_flags.VALID.value or [""]
  for path in more:
    name = Path(path).name
    if name in {*found, Path(first).name}:
      raise app.UsageError(
        "valid", f"must be texts of different names, not {name} twice"
      )
    file = _tokenized("valid", path, tokenizer, documents)
    check_apart(shared_flags.CORPUS.value or "", text.train, path, file)
    found[name] = Text(text.train, file, text.length)
  return found


def check_apart(
  corpus: str, train: TokenFile, held_out: str, valid: TokenFile
) -> None:
  """Refuses a held-out text that has a file of the training text.

  Warns on stderr if the training text has more than 1% of it.

  Args:
    corpus: the training text, as `--corpus` names it.
    train: its tokens.
    held_out: the held-out text, as `--valid` names it.
    valid: its tokens.

  Raises:
    UsageError: a file is in both texts, under the same or another name.
  """
  ours, theirs = Path(corpus).resolve(), Path(held_out).resolve()
  if theirs.is_relative_to(ours) or ours.is_relative_to(theirs):
    raise app.UsageError(
      "valid", f"must not share files with --corpus: {held_out} and {corpus}"
    )
  with app.blaming("valid"):
    texts = (open_source(corpus), train, open_source(held_out), valid)
    if same := overlap.shared_files(*texts):
      raise ValueError(
        f"must not share files with --corpus: {same[1]} has the content of"
        f" {same[0]}"
      )
    shared = overlap.shared_fraction(*texts, _cache())
  if shared > _MOST_SHARED and multihost.is_leader():
    print(
      f"warning: --valid: {shared:.1%} of {held_out} also occurs in --corpus"
      f" (windows of {overlap.WINDOW} bytes), so losses on it are too low",
      file=sys.stderr,
    )


def shared_part(text: Text) -> str:
  """What reports add to the name of a text that has much of its held-out text.

  Args:
    text: what is trained on, from `read_text`.
  """
  if not text.valid:
    return ""
  shared = overlap.find_fraction(text.train, text.valid, _cache())
  if shared is None or shared <= _MOST_SHARED:
    return ""
  return f" ({shared:.1%} of the held-out text also occurs in it)"


def tokenizer_of(about: Mapping[str, Any]) -> Tokenizer:
  """The tokenizer of trained models, to show their tokens as text.

  Args:
    about: what identifies their text, from `about`.

  Returns:
    The tokenizer.

  Raises:
    UsageError: its file is gone or has changed.
  """
  name, sha256 = about["tokenizer"], about["tokenizer_sha256"]
  trained = name.startswith("bpe:")
  of_run = shared_flags.TOKENIZER.value is None
  with app.blaming("cache" if trained and of_run else "tokenizer"):
    if trained:
      return find_bpe(str(_cache()), name, sha256)
    found = load_tokenizer(name)
    if found.sha256 != sha256:
      raise ValueError(f"{name} is not what the models were trained with")
  return found


def about(text: Text) -> dict[str, str | int | float | None]:
  """What identifies the text: hashes of its bytes and of the tokenizer."""
  apart = text.train.documents is not None
  return {
    "corpus_sha256": text.train.sha256,
    "valid_sha256": text.valid.sha256 if text.valid else None,
    "held_out": None if text.valid else text.held_out,
    "tokenizer_sha256": text.train.tokenizer_sha256,
    "tokenizer": text.train.tokenizer,
    "length": text.length,
    # Left out where it is false, so that older run folders still match.
    **({"documents": True} if apart else {}),
  }


def name() -> str:
  """What reports call the text."""
  if shared_flags.CORPUS.value is None:
    return "a generated text (no --corpus was given)"
  return app.printable(Path(shared_flags.CORPUS.value).name)
