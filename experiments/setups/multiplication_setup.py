"""Products digit by digit as `experiments.multiplication` trains on them.

Not a binary: its scales, its tasks, one for each padding, and its model.
"""

import dataclasses
from collections.abc import Sequence
from typing import cast

import jax
import numpy as np

from experiments.common import app, presets, task_setup
from jaxlook.models import DecoderConfig, scaled_init_std
from jaxlook.numerals import counted
from jaxlook.planning.products.measures import ProductSizes
from jaxlook.tasks.multiplication import Multiplication
from jaxlook.training import Problem, TrainConfig, held_out_batch

_FREQUENCY_PRODUCTS = 16_384


@dataclasses.dataclass(frozen=True)
class MultiplicationConfig(presets.Seeded):
  """A scale of the experiment.

  Attributes:
    digits: the most digits of an operand, n.
    pad: by setting, the digits that operands are filled up to; 0 for no
      filling.
    layers: layers of the model.
    width: width of its residual stream.
    heads: attention heads a layer.
    sizes: how many products are measured.
    train: how the models are trained.
  """

  digits: int
  pad: tuple[int, ...]
  layers: int
  width: int
  heads: int
  sizes: ProductSizes
  train: TrainConfig

  def tasks(self) -> dict[str, Multiplication]:
    """The tasks by setting."""
    return {
      f"pad={pad}": Multiplication(digits=self.digits, pad=pad)
      for pad in self.pad
    }


PRESETS = {
  "smoke": MultiplicationConfig(
    digits=1,
    pad=(0, 2),
    layers=2,
    width=16,
    heads=2,
    seeds=2,
    sizes=ProductSizes(products=16, swaps=8, probes=32, beam=2),
    train=presets.small_training(
      steps=4, batch_size=8, log_every=2, eval_batches=1
    ),
  ),
  "cpu": MultiplicationConfig(
    # The least that padding helps with; see the notes of the report.
    digits=3,
    # n and 2n, as published.
    pad=(3, 6),
    layers=2,
    width=64,
    heads=4,
    seeds=3,
    sizes=ProductSizes(),
    train=presets.small_training(steps=900, batch_size=128),
  ),
  # As published: GPT-2 small.
  "paper": MultiplicationConfig(
    digits=5,
    pad=(5, 10),
    layers=12,
    width=768,
    heads=12,
    seeds=3,
    # Twice as many as by default, for a residual stream 12 times as wide.
    sizes=ProductSizes(probes=8192),
    train=presets.small_training(
      steps=9766,
      batch_size=1024,
      learning_rate=6e-4,
      warmup_fraction=0.01,
      microbatches=4,
    ),
  ),
}


def build_config(
  digits: int | None,
  pad: Sequence[int] | None,
  held: presets.Held = presets.NEW_RUN,
) -> MultiplicationConfig:
  """The preset with the flags' values.

  Args:
    digits: the most digits of an operand; None for the preset's.
    pad: the digits that operands are filled up to; None for the preset's.
    held: see `presets.resolve`.

  Raises:
    UsageError: a flag's value cannot be used.
  """
  config = presets.resolve(
    PRESETS, held, digits=digits, pad=None if pad is None else tuple(pad)
  )
  if config.layers < 2:
    raise app.UsageError(
      "layers",
      f"must be at least 2, not {config.layers}: swaps at the input of the"
      " first layer change nothing, since padding has read nothing there",
    )
  if len(config.pad) < 2 or list(config.pad) != sorted(set(config.pad)):
    raise app.UsageError(
      "pad", f"must be two or more rising values, not {list(config.pad)}"
    )
  return config


def problems(config: MultiplicationConfig) -> list[Problem]:
  """The task of every padding with its model, all of one shape."""
  tasks = config.tasks()
  model = DecoderConfig(
    layers=config.layers,
    width=config.width,
    heads=config.heads,
    # Of the longest task, so that all arms start from the same parameters.
    max_length=max(task.length for task in tasks.values()),
    vocab_size=next(iter(tasks.values())).vocab_size,
    init_std=scaled_init_std(config.width),
  )
  return [
    task_setup.problem(
      task, model, train=config.train, seeds=config.seed_range, setting=setting
    )
    for setting, task in tasks.items()
  ]


def frequency_loss(problem: Problem) -> np.ndarray:
  """The loss of a model that knows only how often each digit occurs where.

  Args:
    problem: one of `problems`.

  Returns:
    By digit of the answer, nats, [2n].
  """
  task = cast(Multiplication, problem.task)
  batch = held_out_batch(problem, _FREQUENCY_PRODUCTS)
  return np.asarray(jax.jit(task.frequency_loss)(batch))


def setup(config: MultiplicationConfig) -> str:
  """Task, model, training and seeds in a line, for figures and reports."""
  return (
    f"operands of 1 to {config.digits} digits, the lowest first;"
    f" {task_setup.shape_line(config)};"
    f" {task_setup.training_line(config.train, 'products')};"
    f" {counted(config.seeds, 'seed')}"
  )
