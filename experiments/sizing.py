"""Which shapes the models of a text experiment have, where a flag says so.

Not a binary: `experiments.language` takes one, `experiments.scaling` several.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from absl import flags

from experiments import ablating, cli, reading
from jaxlook.models import SHAPES, DecoderConfig, named_shape, parameter_counts
from jaxlook.tasks.text import Text
from jaxlook.training import Problem

MODEL_SIZE = flags.DEFINE_list(
  "model_size", None, f"A shape by name: {', '.join(SHAPES)}."
)
DATA_STEPS = flags.DEFINE_list(
  "data_steps", None, "Lengths of training to compare, at one size."
)
# What a shape has settled.
_SETTLED = (ablating.LAYERS, ablating.WIDTH, ablating.HEADS)


@dataclasses.dataclass(frozen=True)
class Size:
  """A shape to train.

  Attributes:
    name: what it is called.
    shape: as published; the text decides its tokens and length.
  """

  name: str
  shape: DecoderConfig


def chosen(default: Sequence[str] = ()) -> list[Size]:
  """The shapes that the flags name.

  Args:
    default: names, where `--model_size` is not given.

  Returns:
    Distinct shapes in order; none where nothing is named.

  Raises:
    UsageError: a name is unknown or twice there, or a flag contradicts it.
  """
  names = default if MODEL_SIZE.value is None else MODEL_SIZE.value
  with cli.naming(MODEL_SIZE.name):
    found = [Size(name, named_shape(name)) for name in names]
    if len(set(names)) < len(names):
      raise ValueError(f"model_size has a name twice: {', '.join(names)}")
  for flag in _SETTLED:
    if found and flag.value is not None:
      raise cli.UsageError(
        flag.name, f"is given in vain: the size {names[0]} has settled it"
      )
  return found


def resized(config: reading.Config, size: Size) -> reading.Config:
  """The config with the fields that a size has settled."""
  settled = ("layers", "width", "heads", "init_std", "mlp_width", "tied_head")
  return dataclasses.replace(
    config, **{field: getattr(size.shape, field) for field in settled}
  )


def problem(config: reading.Config, size: Size, text: Text) -> Problem:
  """The text with a model of a size; its setting is the size's name."""
  return dataclasses.replace(
    reading.problem(resized(config, size), text),
    setting=size.name,
    model=named_shape(
      size.name, vocab_size=text.vocab_size, max_length=config.length
    ),
  )


@dataclasses.dataclass(frozen=True)
class Points:
  """What is compared, in order.

  Attributes:
    axis: what changes, with its unit.
    x: how much of it there is, by setting.
    problems: one a point.
  """

  axis: str
  x: Mapping[str, float]
  problems: tuple[Problem, ...]


def points(
  config: reading.Config, text: Text, default: Sequence[str]
) -> Points:
  """The problems of all sizes, or of all lengths of training.

  Args:
    config: the scale; its shape is not used.
    text: what to train on.
    default: names of sizes, where `--model_size` is not given.

  Returns:
    The points in ascending order.

  Raises:
    UsageError: the flags name fewer than two points, or contradict each other.
  """
  sizes = chosen(default)
  if DATA_STEPS.value is None:
    problems = [problem(config, size, text) for size in sizes]
    x = {
      each.setting: parameter_counts(each.model).non_embedding
      for each in problems
    }
    _check_distinct(MODEL_SIZE.name, list(x.values()))
    problems.sort(key=lambda each: x[each.setting])
    return Points("non-embedding parameters", x, tuple(problems))
  if MODEL_SIZE.value is not None and len(sizes) > 1:
    raise cli.UsageError("model_size", "must be one name with --data_steps")
  if ablating.STEPS.value is not None:
    raise cli.UsageError(
      "steps", "is given in vain: --data_steps has settled it"
    )
  base = problem(config, sizes[-1], text)
  with cli.naming("data_steps"):
    lengths = sorted(int(steps) for steps in DATA_STEPS.value)
    trains = [
      dataclasses.replace(config.train, steps=steps) for steps in lengths
    ]
  _check_distinct("data_steps", lengths)
  problems = [
    dataclasses.replace(base, setting=f"{train.steps} steps", train=train)
    for train in trains
  ]
  tokens = config.train.batch_size * config.length
  return Points(
    "training tokens",
    {each.setting: each.train.steps * tokens for each in problems},
    tuple(problems),
  )


def _check_distinct(flag: str, values: list[int]) -> None:
  if len(set(values)) < max(2, len(values)):
    raise cli.UsageError(flag, "needs two different values or more")
