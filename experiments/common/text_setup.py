"""Text as the binaries set it up: flags, scales, baselines.

Not a binary: `experiments.language` and the studies train on it. Without
`--corpus` the text is generated from a small grammar.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import jaxlook
from experiments.common import app, training_flags
from jaxlook.models import DecoderConfig
from jaxlook.runs.atomic_files import write_bytes
from jaxlook.tasks.text import Text, bits_per_byte
from jaxlook.text import ngram
from jaxlook.text.bpe import find_bpe, train_bpe
from jaxlook.text.corpus import TokenFile, tokenize
from jaxlook.text.generated import generated_text
from jaxlook.text.tokenizer import Tokenizer, load_tokenizer
from jaxlook.training import Problem, TrainConfig

_CORPUS = flags.DEFINE_string(
  "corpus",
  None,
  "Text: a file (plain, .gz, .xz), a folder of them, or datasets:NAME with any"
  " of ,config=C ,split=S ,column=K.",
)
_VALID = flags.DEFINE_multi_string(
  "valid",
  None,
  "Held-out text; without it, the end of the corpus. Where an experiment takes"
  " more of them, models are evaluated on each.",
)
_TOKENIZER = flags.DEFINE_string(
  "tokenizer",
  None,
  "bytes, bpe:N (trained on the corpus), a tokenizer.json, or its folder.",
)
_CACHE = flags.DEFINE_string(
  "cache", "~/.cache/jaxlook", "Folder for tokenised text."
)
_DOCUMENTS = flags.DEFINE_boolean(
  "documents",
  False,
  "Keep the files of a folder, or the rows of a data set, apart: no window"
  " crosses the end of one.",
)
_WORKERS = flags.DEFINE_integer(
  "workers",
  None,
  "Processes that tokenise a large text; one a core by default. They change no"
  " token.",
)

UNIT = "nats/token"
SOURCE = "Wu et al. 2024, arXiv 2404.00859, section 5"
_GENERATED_BYTES = 4_000_000


@dataclasses.dataclass(frozen=True)
class TextConfig:
  """A scale of the experiment: model, training, seeds."""

  length: int
  layers: int
  width: int
  heads: int
  init_std: float
  seeds: int
  train: TrainConfig
  mlp_width: int | None = None
  tied_head: bool = True


PRESETS = {
  "smoke": TextConfig(
    length=16,
    layers=1,
    width=16,
    heads=2,
    init_std=0.1,
    seeds=2,
    train=TrainConfig(
      steps=20, batch_size=8, log_every=5, checkpoint_every=10, eval_batches=4
    ),
  ),
  "cpu": TextConfig(
    length=64,
    layers=2,
    width=64,
    heads=4,
    # GPT-2's 0.02, scaled up as 1 / sqrt(width) from its width of 768.
    init_std=0.07,
    seeds=4,
    train=training_flags.small_training(600, 32, eval_batches=64),
  ),
  "paper": TextConfig(
    length=64,
    layers=12,
    width=768,
    heads=12,
    init_std=0.02,
    seeds=3,
    train=TrainConfig(
      steps=9_100,
      batch_size=512,
      learning_rate=6e-4,
      warmup_fraction=0.11,
      clip_norm=1.0,
      log_every=50,
      checkpoint_every=500,
      eval_batches=32,
    ),
  ),
}


def build_config(presets: Mapping[str, TextConfig] = PRESETS) -> TextConfig:
  """The preset with the flags' values."""
  config = training_flags.resolve(presets)
  if config.length < 1:
    raise app.UsageError("length", f"must be at least 1, not {config.length}")
  return config


def shape(config: TextConfig, vocab_size: int) -> DecoderConfig:
  """The GPT-2 shape of a config."""
  with app.naming("width", "heads", "layers"):
    return DecoderConfig(
      layers=config.layers,
      width=config.width,
      heads=config.heads,
      max_length=config.length,
      vocab_size=vocab_size,
      init_std=config.init_std,
      mlp_width=config.mlp_width,
      tied_head=config.tied_head,
    )


def read_text(
  config: TextConfig,
  tokenizer: str | None = None,
  documents: bool = False,
  several: bool = False,
) -> Text:
  """Tokenises what the flags name, or a generated text.

  Args:
    config: gives the length of the windows.
    tokenizer: what to use where `--tokenizer` is not given; bytes by default.
    documents: whether to keep documents apart where `--documents` does not say
      so.
    several: whether more held-out texts than one are of use; see `more_texts`.

  Returns:
    The text, with the first one held out.

  Raises:
    UsageError: a flag's value cannot be used.
  """
  cache = Path(os.path.expanduser(_CACHE.value))
  documents = documents or _DOCUMENTS.value
  held_out = _VALID.value or []
  if len(held_out) > 1 and not several:
    raise app.UsageError("valid", f"takes one text here, not {len(held_out)}")
  with app.naming("cache"):
    write_bytes(cache / "writable", b"")

  named = _TOKENIZER.value or tokenizer or "bytes"
  trained = re.fullmatch(r"bpe:(\d+)", named)
  # Before a text is generated, so that a bad value costs nothing.
  with app.naming("tokenizer"):
    loaded = load_tokenizer("bytes" if trained else named)

  corpus = _CORPUS.value
  if corpus is None:
    if held_out:
      raise app.UsageError("valid", "is given without --corpus")
    if training_flags.PRESET.value == "paper":
      raise app.UsageError("corpus", "is required with --preset=paper")
    file = cache / f"generated-{jaxlook.__version__}-{_GENERATED_BYTES}.txt"
    if not file.exists():
      with app.naming("cache"):
        write_bytes(file, generated_text(0, _GENERATED_BYTES).encode())
    corpus = str(file)
  if trained:
    with app.naming("tokenizer", "corpus"):
      loaded = train_bpe(corpus, cache, int(trained.group(1)))
  train = _tokenized("corpus", corpus, loaded, documents)
  valid = None
  if held_out:
    valid = _tokenized("valid", held_out[0], loaded, documents)
    check_apart(Path(corpus), Path(held_out[0]))
  with app.naming("corpus", "valid"):
    text = Text(train, valid, config.length)
    text.windows(0, range(1), config.train.batch_size)
  return text


def _tokenized(
  flag: str, path: str, tokenizer: Tokenizer, documents: bool
) -> TokenFile:
  """A flag's text in tokens, from the cache where it is there."""
  workers = _WORKERS.value
  if workers is None:
    workers = os.cpu_count() or 1
  with app.naming(flag, "workers"):
    if not path:
      raise ValueError("is empty; give a file or a folder")
    return tokenize(
      path,
      os.path.expanduser(_CACHE.value),
      tokenizer,
      documents=documents,
      workers=workers,
    )


def more_texts(config: TextConfig, text: Text) -> dict[str, Text]:
  """What else of `--valid` there is to evaluate on.

  Args:
    config: gives the length of the windows.
    text: what is trained on, from `read_text`.

  Returns:
    The training text with every further text held out, by that one's name.

  Raises:
    UsageError: a text cannot be read, or two have one name.
  """
  tokenizer = tokenizer_of(about(text))
  apart = text.train.documents is not None
  found: dict[str, Text] = {}
  first, *more = _VALID.value or [""]
  for path in more:
    name = Path(path).name
    if name in {*found, Path(first).name}:
      raise app.UsageError("valid", f"has two texts of the name {name}")
    file = _tokenized("valid", path, tokenizer, apart)
    check_apart(Path(_CORPUS.value or ""), Path(path))
    with app.naming("valid"):
      found[name] = Text(text.train, file, config.length)
  return found


def check_apart(corpus: Path, valid: Path) -> None:
  """Refuses a held-out text that is part of the training text, or around it."""
  inside = valid.resolve().is_relative_to(corpus.resolve())
  if inside or corpus.resolve().is_relative_to(valid.resolve()):
    raise app.UsageError("valid", f"{valid} and {corpus} share files")


def problem(config: TextConfig, text: Text) -> Problem:
  """The text with its model, training and held-out windows."""
  train = config.train
  windows = text.validation_windows(train.eval_batches * train.batch_size)
  batches = min(train.eval_batches, len(windows))
  windows = windows[: len(windows) // batches * batches]
  return Problem(
    setting="",
    task=text,
    model=shape(config, text.vocab_size),
    train=train,
    seeds=tuple(range(config.seeds)),
    score=functools.partial(score, text.valid or text.train),
    about=about(text),
    feed=text.feed(train.batch_size),
    held_out=windows.reshape(batches, -1, windows.shape[-1]),
  )


def tokenizer_of(about: Mapping[str, Any]) -> Tokenizer:
  """The tokenizer of trained models, to show what their tokens are.

  Args:
    about: what identifies their text, as `about` gives it.

  Returns:
    The tokenizer.

  Raises:
    UsageError: its file is gone or is another one.
  """
  name, sha256 = about["tokenizer"], about["tokenizer_sha256"]
  with app.naming("cache" if name.startswith("bpe:") else "tokenizer"):
    if name.startswith("bpe:"):
      return find_bpe(os.path.expanduser(_CACHE.value), name, sha256)
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
    # Only where it is so: runs without it are the same as ever.
    **({"documents": True} if apart else {}),
  }


def score(file: TokenFile, loss: float) -> dict[str, float]:
  """Nats a token, and the same in bits a byte of the file's text."""
  return {
    "loss": loss,
    "bits_per_byte": bits_per_byte(loss, file.length, file.num_bytes),
  }


def baselines(text: Text, problem: Problem) -> dict[str, dict[str, float]]:
  """Unigram and bigram counts of the training text."""
  tokens, held_out = text.train_tokens(), np.asarray(problem.held_out)
  fits = {
    "unigram counts": ngram.fit_unigram(tokens, text.vocab_size),
    "bigram counts": ngram.fit_bigram(tokens, text.vocab_size),
  }
  return {
    name: problem.score(float(fit.nats(held_out).mean()))
    for name, fit in fits.items()
  }


def name() -> str:
  """What the text is called in reports."""
  if _CORPUS.value is None:
    return "a generated text (no --corpus was given)"
  return Path(_CORPUS.value).name


def setup(config: TextConfig, text: Text) -> str:
  """Text, model and training in a line, for figures and reports."""
  train = config.train
  apart = ", documents apart" if text.train.documents is not None else ""
  return (
    f"{name()}, {text.train.tokenizer} tokens{apart}; N = {config.length},"
    f" {config.layers} layers, width {config.width}, {config.heads} heads;"
    f" AdamW {train.learning_rate:g}, {train.steps} steps of"
    f" {train.batch_size} sequences"
  )
