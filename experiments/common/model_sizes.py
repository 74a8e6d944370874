"""The models that a text experiment trains, if a flag names their size.

Not a binary: `experiments.language` takes one size, `experiments.scaling`
several. A size is a named shape that is trained from scratch, or a pretrained
Hugging Face folder that is fine-tuned with its own tokenizer.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments.common import (
  app,
  shared_flags,
  text_corpus,
  text_setup,
  trained_models,
)
from experiments.common.shared_flags import FROM, MODEL_SIZE
from jaxlook.models import (
  LEARNING_RATES,
  SHAPES,
  DecoderConfig,
  named_shape,
)
from jaxlook.tasks.text import Text
from jaxlook.text.tokenizer import load_tokenizer
from jaxlook.training import Problem, Start, start_from

# Flags that a named size decides.
_SHAPE_FLAGS = (
  shared_flags.LAYERS,
  shared_flags.WIDTH,
  shared_flags.HEADS,
)
# Share of the peak learning rate of the pretraining, and of the steps that warm
# up (Wu et al. 2024, section 5).
_FINE_TUNING_RATE = 0.4
_FINE_TUNING_WARMUP = 0.05
SAME_START = (
  "All seeds start from the same pretrained weights and differ only in the"
  " order of the data."
)


@dataclasses.dataclass(frozen=True)
class Size:
  """A model to train.

  Attributes:
    name: of the shape, or of the pretrained folder.
    shape: as published; a new model takes vocabulary and length from the text.
    folder: the pretrained model and its tokenizer; None for a new model.
    start: the folder's weights; None for a new model.
  """

  name: str
  shape: DecoderConfig
  folder: Path | None = None
  start: Start | None = None


def chosen(default: Sequence[str] = ()) -> list[Size]:
  """The sizes that the flags name.

  Args:
    default: names of shapes to use if no flag names any.

  Returns:
    Sizes with distinct names, in order; empty if nothing is named.

  Raises:
    UsageError: a name is unknown or repeated, a folder cannot be read, or flags
      contradict each other.
  """
  if FROM.value and MODEL_SIZE.value is not None:
    raise app.UsageError(MODEL_SIZE.name, "cannot be combined with --from")
  if FROM.value:
    flag, found = FROM, _pretrained(FROM.value)
  else:
    flag = MODEL_SIZE
    names = default if MODEL_SIZE.value is None else MODEL_SIZE.value
    found = [Size(name, named_shape(name)) for name in names]
  names = [size.name for size in found]
  if len(set(names)) < len(names):
    raise app.UsageError(flag.name, f"has a name twice: {', '.join(names)}")
  for flag in _SHAPE_FLAGS:
    if found and flag.value is not None:
      raise app.UsageError(
        flag.name, f"cannot be combined with the model size {names[0]}"
      )
  return found


def chosen_one() -> Size | None:
  """The one size that the flags name; None if they name none.

  Raises:
    UsageError: the flags name several sizes, or `chosen` refuses them.
  """
  sizes = chosen()
  if len(sizes) > 1:
    flag = FROM if FROM.value else MODEL_SIZE
    raise app.UsageError(flag.name, f"must be one model, not {len(sizes)}")
  return sizes[0] if sizes else None


def _pretrained(folders: Sequence[str]) -> list[Size]:
  """The models of the folders, which must share one tokenizer."""
  found, hashes = [], set()
  for folder in folders:
    path = Path(folder)
    with trained_models.reading_weights(FROM.name, path):
      loaded, start = start_from(path)
    if not shared_flags.TOKENIZER.value:
      with text_corpus.blaming_tokenizer(FROM.name):
        hashes.add(load_tokenizer(path).sha256)
    name = app.printable(path.resolve().name)
    found.append(Size(name, loaded.config, path, start))
  if len(hashes) > 1:
    raise app.UsageError(
      FROM.name,
      "must name folders with one tokenizer: losses per token of different"
      " tokenizers cannot be compared",
    )
  return found


def read_text(
  config: text_setup.TextConfig, sizes: Sequence[Size], several: bool = False
) -> Text:
  """The text in the tokens that all sizes share.

  Args:
    config: gives length and number of the windows.
    sizes: what to train; a pretrained model brings its tokenizer.
    several: whether `--valid` may name several texts.

  Returns:
    The text.

  Raises:
    UsageError: the windows are too long for a pretrained model, the text has
      tokens that it lacks, or `text_corpus.read_text` refuses the text.
  """
  of_folders = [size for size in sizes if size.folder is not None]
  for size in of_folders:
    if config.length > size.shape.max_length:
      raise app.UsageError(
        "length",
        f"must be at most {size.shape.max_length} for {size.name}, not"
        f" {config.length}",
      )
  tokenizer = str(of_folders[0].folder) if of_folders else None
  text = text_corpus.read_text(
    config.length,
    config.train.batch_size,
    tokenizer=tokenizer,
    tokenizer_from=FROM.name,
    several=several,
  )
  for size in of_folders:
    if text.vocab_size > (size.shape.vocab_size or 0):
      raise app.UsageError(
        "tokenizer",
        f"must have at most the {size.shape.vocab_size} ids of {size.name}, not"
        f" {text.vocab_size}",
      )
  return text


def fitted(config: text_setup.TextConfig, size: Size) -> text_setup.TextConfig:
  """The config with the shape of a size, and with its fine-tuning.

  Args:
    config: the scale.
    size: the size.

  Returns:
    The config. A pretrained model is trained at 0.4 times the learning rate of
    its pretraining, unless `--learning_rate` says otherwise, after a warm-up of
    5% of the steps.

  Raises:
    UsageError: the learning rate of the pretraining is unknown, and no
      `--learning_rate` is given.
  """
  shape = size.shape
  config = dataclasses.replace(
    config,
    layers=shape.layers,
    width=shape.width,
    heads=shape.heads,
    init_std=shape.init_std,
    mlp_width=shape.mlp_width,
    tied_head=shape.tied_head,
  )
  if size.start is None:
    return config
  rate = shared_flags.LEARNING_RATE.value
  if rate is None:
    rate = _fine_tuning_rate(size)
  train = dataclasses.replace(
    config.train,
    learning_rate=rate,
    warmup_fraction=_FINE_TUNING_WARMUP,
    warmup_steps=None,
  )
  return dataclasses.replace(config, train=train)


def _fine_tuning_rate(size: Size) -> float:
  """0.4 times the learning rate of the published model of the same shape."""
  for name, rate in LEARNING_RATES.items():
    if SHAPES[name] == size.shape:
      return _FINE_TUNING_RATE * rate
  raise app.UsageError(
    "learning_rate",
    f"must be given: no published pretraining has the shape of {size.name}",
  )


def problem(config: text_setup.TextConfig, size: Size, text: Text) -> Problem:
  """Language modelling with a model of a size, whose name is the setting."""
  shape = size.shape
  if size.start is None:
    shape = dataclasses.replace(
      shape, vocab_size=text.vocab_size, max_length=config.length
    )
  return dataclasses.replace(
    text_setup.problem(fitted(config, size), text),
    setting=size.name,
    model=shape,
    start=size.start,
  )
