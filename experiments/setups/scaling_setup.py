"""What `experiments.scaling` compares: model sizes, or amounts of data.

Not a binary. A point of the sweep is one model size, or one length of
training; every arm is trained at every point.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from experiments.common import (
  app,
  define_flags,
  model_sizes,
  shared_flags,
  task_setup,
  text_corpus,
  text_setup,
  train_arms,
)
from experiments.common.model_sizes import Size
from experiments.common.shared_flags import FROM, MODEL_SIZE
from experiments.common.study import Study
from experiments.common.text_setup import TextConfig
from jaxlook.attention import Variant
from jaxlook.lookahead import scaling
from jaxlook.models import parameter_counts
from jaxlook.numerals import counted
from jaxlook.stats import myopia_gap
from jaxlook.tasks.text import Text
from jaxlook.training import Problem, TrainConfig

DATA_STEPS = define_flags.values(
  "data_steps",
  None,
  "Numbers of training steps to compare, at one model size. [compares model"
  " sizes]",
)

ARMS = (myopia_gap.CAUSAL, myopia_gap.RESIDUAL, myopia_gap.KV, scaling.LOCAL)
PARAMETERS = "non-embedding parameters"
TOKENS = "training tokens"

SIZES = {
  "smoke": ("0.9k", "3.3k"),
  "cpu": ("13k", "51k", "0.2M"),
  "paper": ("pythia-14m", "pythia-31m", "pythia-70m", "pythia-160m"),
}
_CPU, _PAPER = (text_setup.PRESETS[preset] for preset in ("cpu", "paper"))
PRESETS = text_setup.PRESETS | {
  # Four arms at three sizes: fewer steps, to stay within minutes.
  "cpu": dataclasses.replace(
    _CPU, train=dataclasses.replace(_CPU.train, steps=400)
  ),
  "paper": dataclasses.replace(_PAPER, seeds=4),
}


@dataclasses.dataclass(frozen=True)
class Points:
  """The points of a sweep, in ascending order.

  Attributes:
    axis: what changes between points: `PARAMETERS` or `TOKENS`.
    x: how much of it each point has, by setting.
    problems: one for each point.
    size: the name of the one model size, if the amount of data changes.
  """

  axis: str
  x: Mapping[str, float]
  problems: tuple[Problem, ...]
  size: str | None = None


def check_points(config: TextConfig, sizes: Sequence[Size]) -> None:
  """Refuses flags that give fewer than two points, before any text is read.

  Args:
    config: the scale.
    sizes: what to train.

  Raises:
    UsageError: the flags give fewer than two points, or contradict each other.
  """
  for size in sizes:
    model_sizes.fitted(config, size)
  if DATA_STEPS.value is None:
    flag = FROM if FROM.value else MODEL_SIZE
    _check_distinct(flag.name, list(map(_parameters, sizes)))
    return
  if len(sizes) > 1 and (FROM.value or MODEL_SIZE.value):
    raise app.UsageError(
      DATA_STEPS.name, f"needs one model size, not {len(sizes)}"
    )
  if shared_flags.STEPS.value is not None:
    raise app.UsageError("steps", "cannot be combined with --data_steps")
  with app.mapping(steps=DATA_STEPS.name):
    lengths = [each.steps for each in _trainings(config.train)]
  _check_distinct(DATA_STEPS.name, lengths)


def points(config: TextConfig, text: Text, sizes: Sequence[Size]) -> Points:
  """The problems of all sizes, or of all lengths of training.

  Args:
    config: the scale; each size replaces its shape.
    text: what to train on.
    sizes: what to train, checked by `check_points`; with `--data_steps` only
      the last one is used.

  Returns:
    The points.
  """
  if DATA_STEPS.value is None:
    ordered = sorted(sizes, key=_parameters)
    return Points(
      axis=PARAMETERS,
      x={size.name: _parameters(size) for size in ordered},
      problems=tuple(
        model_sizes.problem(config, size, text) for size in ordered
      ),
    )
  base = model_sizes.problem(config, sizes[-1], text)
  problems = tuple(
    dataclasses.replace(base, setting=counted(train.steps, "step"), train=train)
    for train in _trainings(base.train)
  )
  tokens = base.train.batch_size * config.length
  return Points(
    axis=TOKENS,
    x={each.setting: each.train.steps * tokens for each in problems},
    problems=problems,
    size=sizes[-1].name,
  )


def _parameters(size: Size) -> int:
  return parameter_counts(size.shape).non_embedding


def _trainings(train: TrainConfig) -> list[TrainConfig]:
  """One for each number of `--data_steps`, with a whole schedule each."""
  lengths = app.numbers(DATA_STEPS.name, DATA_STEPS.value or (), int)
  return [dataclasses.replace(train, steps=steps) for steps in sorted(lengths)]


def _check_distinct(flag: str, values: Sequence[int]) -> None:
  if len(set(values)) < max(2, len(values)):
    raise app.UsageError(flag, "needs two different values or more")


def study(config: TextConfig, text: Text, swept: Points) -> Study:
  """What is trained: the run's config, and its description for reports."""
  first = swept.problems[0]
  return Study(
    name="scaling",
    title=f"Myopia gap and local bonus against {swept.axis}",
    problem=first,
    variants=train_arms.named_variants(ARMS, first.model),
    config={
      "experiment": "scaling",
      "text": text_corpus.about(text),
      "axis": swept.axis,
      "points": {
        each.setting: {
          "x": swept.x[each.setting],
          "model": dataclasses.asdict(each.model),
          "start": each.start.about if each.start else None,
          "train": dataclasses.asdict(each.train),
        }
        for each in swept.problems
      },
      "seeds": config.seeds,
      "seed_offset": config.seed_offset,
    },
    setup=_setup(config, text, swept),
    unit=text_setup.UNIT,
    source=text_setup.SOURCE,
  )


def _setup(config: TextConfig, text: Text, swept: Points) -> str:
  """Text, models and training in a line, for figures and reports."""
  first = swept.problems[0]
  shapes = {each.setting: each for each in swept.problems}
  if swept.size is not None:
    shapes = {swept.size: first}
  models = ", ".join(
    f"{name} ({task_setup.shape_line(each.model)},"
    f" {task_setup.optimizer_line(each.train)})"
    for name, each in shapes.items()
  )
  steps = " or ".join(
    map(str, sorted({each.train.steps for each in swept.problems}))
  )
  start = "fine-tuned from pretrained weights; " if first.start else ""
  return (
    f"{text_corpus.name()}{text_corpus.shared_part(text)},"
    f" {text.train.tokenizer} tokens; N = {config.length};"
    f" {models}; {start}{steps} steps of {first.train.batch_size} sequences;"
    f" {counted(config.seeds, 'seed')}"
  )


def arms(swept: Points) -> list[tuple[Problem, Variant]]:
  """Problem and variant of every arm, at every point."""
  return [
    (problem, variant)
    for problem in swept.problems
    for variant in train_arms.named_variants(ARMS, problem.model)
  ]
