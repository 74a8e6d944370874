"""What the setups of generated tasks share: the problem, the setup line.

Not a binary.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from experiments.common import memory_check
from jaxlook.attention.masks import Barrier
from jaxlook.models import DecoderConfig
from jaxlook.numerals import counted
from jaxlook.training import Problem, TrainConfig, optimizers


def plain_score(loss: float) -> dict[str, float]:
  """The metrics of an experiment that reports the loss alone."""
  return {"loss": loss}


def problem(
  task: Any,
  model: DecoderConfig,
  *,
  train: TrainConfig,
  seeds: range,
  setting: str = "",
  score: Callable[[float], dict[str, float]] = plain_score,
  barrier: Barrier | None = None,
) -> Problem:
  """A generated task with its model, training and seeds.

  Args:
    task: a dataclass that generates batches; its fields identify it.
    model: the decoder's shape.
    train: how it is trained.
    seeds: in steps of one; each determines an init and a data order.
    setting: what tells this problem from the others of the experiment.
    score: metrics of a mean held-out loss.
    barrier: of the decoder; None for none.

  Returns:
    The problem.

  Raises:
    SettingError: the training does not fit the model.
    UsageError: no machine could hold it.
  """
  # A range may be longer than `len` can say.
  memory_check.check_sizes(model, train, seeds.stop - seeds.start)
  return Problem(
    setting=setting,
    task=task,
    model=model,
    train=train,
    seeds=tuple(seeds),
    score=score,
    about=dataclasses.asdict(task),
    barrier=barrier,
  )


def shape_line(shape: Any) -> str:
  """Layers, width and heads in a few words, for setup lines.

  Args:
    shape: a decoder's shape, or a config with these fields.
  """
  return (
    f"{counted(shape.layers, 'layer')}, width {shape.width},"
    f" {counted(shape.heads, 'head')}"
  )


def training_line(train: TrainConfig, items: str = "sequences") -> str:
  """Optimizer, steps and batch in a few words, for setup lines."""
  return (
    f"{optimizer_line(train)}, {counted(train.steps, 'step')} of"
    f" {train.batch_size} {items}"
  )


def optimizer_line(train: TrainConfig) -> str:
  """Optimizer, rate and what is unusual in a few words, for setup lines."""
  parts = [f"{optimizers.NAMES[train.optimizer]} {train.learning_rate:g}"]
  if train.schedule != "cosine":
    parts.append(f"schedule {train.schedule}")
  if train.decay_matrices_only:
    parts.append("weight decay of matrices only")
  return ", ".join(parts)
