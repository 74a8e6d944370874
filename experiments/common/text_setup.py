"""Language modelling as the binaries set it up: scales, model, baselines.

Not a binary: `experiments.language` and the studies train on it. The text
comes from `text_corpus`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from experiments.common import (
  app,
  memory_check,
  presets,
  task_setup,
  text_corpus,
)
from jaxlook import machine
from jaxlook.models import DecoderConfig
from jaxlook.tasks.text import Text, bits_per_byte
from jaxlook.text import ngram
from jaxlook.text.corpus import TokenFile
from jaxlook.training import Problem, TrainConfig

UNIT = "nats/token"
SOURCE = "Wu et al. 2024, arXiv 2404.00859, section 5"
BIGRAM = "bigram counts"
ORDERS = (2, 3, 4, 5)
"""Orders of the n-grams that are counted beside single tokens."""

# A token of the text takes so many to count n-grams: measured for a BPE of 4096
# tokens; for bytes it is a tenth.
_GRAM_BYTES = 125

Count = Callable[[np.ndarray], np.ndarray]
"""Windows [..., N + 1] to nats per target [..., N]."""


@dataclasses.dataclass(frozen=True)
class TextConfig(presets.Seeded):
  """A scale of an experiment on text.

  Attributes:
    length: tokens a window, N.
    layers: layers of the model.
    width: width of its residual stream.
    heads: attention heads a layer.
    init_std: standard deviation of the initial weights.
    train: how the models are trained.
    mlp_width: hidden width of the feed-forward layers; 0 for none, None for
      four times the width.
    tied_head: whether the output embedding is the input embedding.
  """

  length: int
  layers: int
  width: int
  heads: int
  init_std: float
  train: TrainConfig
  mlp_width: int | None = None
  tied_head: bool = True


PRESETS = {
  "smoke": TextConfig(
    length=16,
    layers=1,
    width=16,
    heads=2,
    # Larger than GPT-2's, as the width is smaller; see `cpu`.
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
    train=presets.small_training(steps=600, batch_size=32, eval_batches=64),
  ),
  # GPT-2 small on windows of 64 tokens, as in the published study.
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


def build_config(
  by_preset: Mapping[str, TextConfig] = PRESETS,
  held: presets.Held = presets.NEW_RUN,
) -> TextConfig:
  """The preset with the flags' values.

  Args:
    by_preset: a config by preset.
    held: see `presets.resolve`.

  Raises:
    SettingError: a flag's value is out of range.
    UsageError: a flag's value cannot be used.
  """
  config = presets.resolve(by_preset, held)
  if config.length < 1:
    raise app.UsageError("length", f"must be at least 1, not {config.length}")
  # Before the text is read, with the fewest tokens that it can have.
  memory_check.check_sizes(shape(config, 2), config.train, config.seeds)
  return config


def shape(config: TextConfig, vocab_size: int) -> DecoderConfig:
  """The GPT-2 shape of a config."""
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


def attention_only(config: TextConfig, layers: int) -> TextConfig:
  """The scale with attention-only models, as in Elhage et al. (2021).

  Embeddings are not shared, as in the paper: a direct path through shared ones
  can only be symmetric, which bigrams are not.
  """
  return dataclasses.replace(
    config, layers=layers, mlp_width=0, tied_head=False
  )


def problem(config: TextConfig, text: Text) -> Problem:
  """Language modelling on a text: model, training and held-out windows."""
  train, model = config.train, shape(config, text.vocab_size)
  memory_check.check_sizes(model, train, config.seeds)
  windows = text.validation_windows(train.eval_batches * train.batch_size)
  batches = min(train.eval_batches, len(windows))
  windows = windows[: len(windows) // batches * batches]
  return Problem(
    setting="",
    task=text,
    model=model,
    train=train,
    seeds=tuple(config.seed_range),
    score=functools.partial(score, text.valid or text.train),
    about=text_corpus.about(text),
    feed=text.feed(train.batch_size),
    held_out=windows.reshape(batches, -1, windows.shape[-1]),
  )


def score(file: TokenFile, loss: float) -> dict[str, float]:
  """Nats a token, and the same in bits a byte of the file's text."""
  return {
    "loss": loss,
    "bits_per_byte": bits_per_byte(loss, file.length, file.num_bytes),
  }


def count(text: Text) -> dict[str, Count]:
  """Counts tokens and n-grams of the training text.

  Takes about 10 seconds for 5 million tokens of a BPE, a third for bytes. Grams
  of three tokens and more are left out if this machine cannot hold them.

  Args:
    text: what is trained on.

  Returns:
    By name of the baseline, from unigrams to 5-grams, what scores windows.
  """
  tokens, size = text.train_tokens(), text.vocab_size
  fits = _GRAM_BYTES * len(tokens) <= machine.host_bytes()
  orders = ORDERS if fits else ORDERS[:1]
  models = ngram.fit_ngrams(tokens, size, orders[-1], ends=text.train_ends())
  return {
    "unigram counts": ngram.fit_ngrams(tokens, size, 1, add=1.0).nats,
    **{
      counts_name(order): functools.partial(models.nats, order=order)
      for order in orders
    },
  }


def counts_name(order: int) -> str:
  """What tables call the counts of n-grams of an order, 2 or above."""
  return BIGRAM if order == 2 else f"{order}-gram counts"


def baselines(
  counts: Mapping[str, Count], problem: Problem
) -> dict[str, dict[str, float]]:
  """The scores of counts on the held-out windows of a problem.

  Args:
    counts: from `count`.
    problem: gives windows and score.

  Returns:
    Metrics by name of the baseline.
  """
  held_out = np.asarray(problem.held_out)
  return {
    name: problem.score(float(nats(held_out).mean()))
    for name, nats in counts.items()
  }


def setup(config: TextConfig, text: Text) -> str:
  """Text, model and training in a line, for figures and reports."""
  apart = ", documents apart" if text.train.documents is not None else ""
  return (
    f"{text_corpus.name()}{text_corpus.shared_part(text)},"
    f" {text.train.tokenizer} tokens{apart};"
    f" N = {config.length}, {task_setup.shape_line(config)};"
    f" {task_setup.training_line(config.train)}"
  )
