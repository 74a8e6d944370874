"""Which models a text experiment trains, where a flag says so.

Not a binary: `experiments.language` takes one, `experiments.scaling` several.
A size is a shape by name, trained from scratch, or a pretrained Hugging Face
folder that is fine-tuned with its own tokenizer.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from experiments.common import app, text_corpus, text_setup, training_flags
from jaxlook.models import (
  LEARNING_RATES,
  SHAPES,
  DecoderConfig,
  named_shape,
  parameter_counts,
)
from jaxlook.tasks.text import Text
from jaxlook.text.tokenizer import load_tokenizer
from jaxlook.training import Problem, Start, TrainConfig, start_from

MODEL_SIZE = flags.DEFINE_list(
  "model_size", None, f"A shape by name: {', '.join(SHAPES)}."
)
FROM = flags.DEFINE_multi_string(
  "from",
  None,
  "A Hugging Face folder (GPT-2, Pythia) whose weights all seeds start from.",
)
DATA_STEPS = flags.DEFINE_list(
  "data_steps", None, "Lengths of training to compare, at one size."
)
# What a shape has settled.
_SETTLED = (training_flags.LAYERS, training_flags.WIDTH, training_flags.HEADS)
# Of the peak that the models were pretrained with (Wu et al. 2024, section 5).
_FINE_TUNING = 0.4
SAME_START = (
  "All seeds start from the same pretrained weights and differ in the order of"
  " the data alone."
)
PARAMETERS = "non-embedding parameters"
TOKENS = "training tokens"


@dataclasses.dataclass(frozen=True)
class Size:
  """A model to train.

  Attributes:
    name: what it is called.
    shape: as published; the text decides the tokens and length of a new one.
    folder: what it starts from, with its tokenizer; None for a new one.
    start: the folder's weights.
  """

  name: str
  shape: DecoderConfig
  folder: Path | None = None
  start: Start | None = None


def chosen(default: Sequence[str] = ()) -> list[Size]:
  """The sizes that the flags name.

  Args:
    default: names of shapes, where no flag says so.

  Returns:
    Sizes with distinct names, in order; none where nothing is named.

  Raises:
    UsageError: a name is unknown or twice there, a folder cannot be read, or
      flags contradict each other.
  """
  if FROM.value and MODEL_SIZE.value is not None:
    raise app.UsageError(MODEL_SIZE.name, "is given in vain: --from settles it")
  if FROM.value:
    flag, found = FROM, _pretrained(FROM.value)
  else:
    flag = MODEL_SIZE
    names = default if MODEL_SIZE.value is None else MODEL_SIZE.value
    with app.naming(MODEL_SIZE.name):
      found = [Size(name, named_shape(name)) for name in names]
  names = [size.name for size in found]
  if len(set(names)) < len(names):
    raise app.UsageError(flag.name, f"has a name twice: {', '.join(names)}")
  for settled in _SETTLED:
    if found and settled.value is not None:
      raise app.UsageError(
        settled.name, f"is given in vain: the size {names[0]} has settled it"
      )
  return found


def _pretrained(folders: Sequence[str]) -> list[Size]:
  """The folders' models, which share their tokens."""
  found, hashes = [], set()
  for folder in folders:
    with app.naming(FROM.name):
      loaded, start = start_from(folder)
      path = Path(folder)
      if not flags.FLAGS["tokenizer"].value:
        hashes.add(load_tokenizer(path).sha256)
    found.append(Size(path.resolve().name, loaded.config, path, start))
  if len(hashes) > 1:
    raise app.UsageError(
      FROM.name, "names folders of different tokenizers: losses in other units"
    )
  return found


def read_text(
  config: text_setup.TextConfig, sizes: Sequence[Size], several: bool = False
) -> Text:
  """The text in the tokens that all sizes share; see `reading.read_text`.

  Args:
    config: gives the length of the windows.
    sizes: what to train; a folder's own tokenizer is taken.
    several: as of `reading.read_text`.

  Returns:
    The text.

  Raises:
    UsageError: a pretrained model does not know the length or the tokens, or
      as `reading.read_text`.
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
    several=several,
  )
  for size in of_folders:
    if text.vocab_size > (size.shape.vocab_size or 0):
      raise app.UsageError(
        "tokenizer",
        f"has {text.vocab_size} ids, {size.name} only {size.shape.vocab_size}",
      )
  return text


def fitted(config: text_setup.TextConfig, size: Size) -> text_setup.TextConfig:
  """The config with what a size settles: its shape, and how it is fine-tuned.

  Args:
    config: the scale.
    size: the size.

  Returns:
    The config. Where a pretrained model goes on, the learning rate is 0.4 times
    that of its pretraining and is reached after 5% of the steps.

  Raises:
    UsageError: nothing says which learning rate a pretrained model needs.
  """
  settled = ("layers", "width", "heads", "init_std", "mlp_width", "tied_head")
  config = dataclasses.replace(
    config, **{field: getattr(size.shape, field) for field in settled}
  )
  if size.start is None:
    return config
  rate = training_flags.LEARNING_RATE.value
  if rate is None:
    published = [
      LEARNING_RATES[name]
      for name in LEARNING_RATES
      if SHAPES[name] == size.shape
    ]
    if not published:
      raise app.UsageError(
        "learning_rate",
        f"is needed: {size.name} has the shape of no model whose pretraining is"
        " known",
      )
    rate = _FINE_TUNING * published[0]
  train = dataclasses.replace(
    config.train, learning_rate=rate, warmup_fraction=0.05
  )
  return dataclasses.replace(config, train=train)


def problem(config: text_setup.TextConfig, size: Size, text: Text) -> Problem:
  """The text with a model of a size; its setting is the size's name."""
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


@dataclasses.dataclass(frozen=True)
class Points:
  """What is compared, in ascending order.

  Attributes:
    axis: what changes: `PARAMETERS` or `TOKENS`.
    x: how much of it there is, by setting.
    problems: one a point.
    size: the name of the one size, where it does not change.
  """

  axis: str
  x: Mapping[str, float]
  problems: tuple[Problem, ...]
  size: str | None = None


def check_points(config: text_setup.TextConfig, sizes: Sequence[Size]) -> None:
  """Refuses what gives no points, before any text is read.

  Args:
    config: the scale.
    sizes: what to train.

  Raises:
    UsageError: the flags name fewer than two points, or contradict each other.
  """
  for size in sizes:
    fitted(config, size)
  if DATA_STEPS.value is None:
    flag = FROM if FROM.value else MODEL_SIZE
    _check_distinct(flag.name, list(map(_parameters, sizes)))
    return
  if len(sizes) > 1 and (FROM.value or MODEL_SIZE.value):
    raise app.UsageError(DATA_STEPS.name, f"takes one size, not {len(sizes)}")
  if training_flags.STEPS.value is not None:
    raise app.UsageError("steps", "is given in vain: --data_steps settles it")
  with app.naming(DATA_STEPS.name):
    lengths = [each.steps for each in _trainings(config.train)]
  _check_distinct(DATA_STEPS.name, lengths)


def points(
  config: text_setup.TextConfig, text: Text, sizes: Sequence[Size]
) -> Points:
  """The problems of all sizes, or of all lengths of training.

  Args:
    config: the scale; its shape is not used.
    text: what to train on.
    sizes: what to train, as `check_points` takes them; the last one alone with
      `--data_steps`.

  Returns:
    The points.
  """
  if DATA_STEPS.value is None:
    ordered = sorted(sizes, key=_parameters)
    return Points(
      PARAMETERS,
      {size.name: _parameters(size) for size in ordered},
      tuple(problem(config, size, text) for size in ordered),
    )
  base = problem(config, sizes[-1], text)
  problems = tuple(
    dataclasses.replace(base, setting=f"{train.steps} steps", train=train)
    for train in _trainings(base.train)
  )
  tokens = base.train.batch_size * config.length
  x = {each.setting: each.train.steps * tokens for each in problems}
  return Points(TOKENS, x, problems, sizes[-1].name)


def _parameters(size: Size) -> int:
  return parameter_counts(size.shape).non_embedding


def _trainings(train: TrainConfig) -> list[TrainConfig]:
  """One for each length of `--data_steps`, with a whole schedule."""
  lengths = sorted(int(steps) for steps in DATA_STEPS.value or ())
  return [dataclasses.replace(train, steps=steps) for steps in lengths]


def _check_distinct(flag: str, values: Sequence[int]) -> None:
  if len(set(values)) < max(2, len(values)):
    raise app.UsageError(flag, "needs two different values or more")
