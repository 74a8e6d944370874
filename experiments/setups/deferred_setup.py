"""Deferred sums as `experiments.deferred` trains on them.

Not a binary: its scales, its task, and its models, one for each depth.
"""

import dataclasses
import functools

from experiments.common import presets, task_setup
from experiments.setups import horizon_setup
from jaxlook.lookahead.horizon import HorizonSweep
from jaxlook.models import DecoderConfig, scaled_init_std
from jaxlook.numerals import counted
from jaxlook.tasks.deferred import Deferred
from jaxlook.training import Problem, TrainConfig


@dataclasses.dataclass(frozen=True)
class DeferredConfig(presets.Seeded):
  """A scale of the experiment.

  Attributes:
    p: probability that a position asks.
    delay: steps after its end at which the nearest pair is asked for, d.
    terms: pairs that are added up.
    tokens: number of tokens that pairs are made of.
    values: number of values that a pair has.
    length: positions a sequence.
    depths: by setting, layers of the model.
    width: width of the residual stream.
    heads: attention heads a layer.
    horizons: gradient horizons that are trained, positions.
    train: how the models are trained.
  """

  p: float
  delay: int
  terms: int
  tokens: int
  values: int
  length: int
  depths: tuple[int, ...]
  width: int
  heads: int
  horizons: tuple[int, ...]
  train: TrainConfig

  def task(self) -> Deferred:
    """The task."""
    return Deferred(
      p=self.p,
      delay=self.delay,
      terms=self.terms,
      tokens=self.tokens,
      values=self.values,
      length=self.length,
    )

  def sweep(self) -> HorizonSweep:
    """The horizons that are trained, for both stop points."""
    return HorizonSweep(self.horizons, single_layers=False)


PRESETS = {
  "smoke": DeferredConfig(
    p=0.5,
    delay=2,
    terms=1,
    tokens=4,
    values=2,
    length=6,
    depths=(2,),
    width=8,
    heads=2,
    seeds=2,
    horizons=(0, 1),
    train=presets.small_training(steps=20, batch_size=8, log_every=10),
  ),
  "cpu": DeferredConfig(
    p=0.5,
    delay=4,
    # A later position could look up a single pair by itself; see the task.
    terms=3,
    tokens=4,
    values=2,
    length=16,
    # Two layers need h = 4 to reach the nearest pair, three need h = 2.
    depths=(2, 3),
    width=32,
    heads=2,
    seeds=3,
    # The farthest pair ends 6 positions back.
    horizons=(0, 1, 2, 3, 4, 6),
    train=presets.small_training(steps=800, batch_size=64),
  ),
  "paper": DeferredConfig(
    p=0.5,
    delay=16,
    terms=4,
    tokens=8,
    values=4,
    length=64,
    # They need h = 16, 8 and 4 to reach the nearest pair.
    depths=(2, 3, 5),
    width=128,
    heads=4,
    seeds=8,
    # The farthest pair ends 19 positions back.
    horizons=(0, 1, 2, 4, 5, 8, 12, 15, 16, 19, 32),
    train=presets.small_training(
      steps=10_000, batch_size=256, learning_rate=1e-3
    ),
  ),
}


def build_config(
  delay: int | None, held: presets.Held = presets.NEW_RUN
) -> DeferredConfig:
  """The preset with the flags' values, and horizons within the sequence.

  Args:
    delay: steps until the nearest pair is asked for; None for the preset's.
    held: see `presets.resolve`.

  Raises:
    UsageError: a flag's value cannot be used.
  """
  config = presets.resolve(PRESETS, held, delay=delay)
  # Refuses a task that is impossible before its horizons.
  config.task()
  sweep = horizon_setup.build_sweep(config.sweep(), config.length)
  return dataclasses.replace(config, horizons=sweep.horizons)


def setting(layers: int) -> str:
  """The name of the setting with models of a depth."""
  return f"{counted(layers, 'layer')}"


def problem(config: DeferredConfig, layers: int) -> Problem:
  """The task with a model of some depth and its training."""
  task = config.task()
  model = DecoderConfig(
    layers=layers,
    width=config.width,
    heads=config.heads,
    max_length=config.length,
    vocab_size=task.vocab_size,
    positions="rotary",
    tied_head=False,
    init_std=scaled_init_std(config.width),
  )
  return task_setup.problem(
    task,
    model,
    train=config.train,
    seeds=config.seed_range,
    setting=setting(layers),
    score=functools.partial(
      score, task.p * (task.length - task.first) / task.length
    ),
  )


def score(share: float, loss: float) -> dict[str, float]:
  """The loss, and the loss for each position that asks.

  Args:
    share: of the positions, how many ask on average.
    loss: mean held-out loss of all positions.
  """
  return {"loss": loss, "loss_over_asked": loss / share}


def setup(config: DeferredConfig) -> str:
  """Task, model and training in a line, for figures and reports."""
  return (
    f"{counted(config.terms, 'pair')} of {config.tokens} tokens, from"
    f" {counted(config.delay, 'step')} back on, asked for with"
    f" p = {config.p:g}; N = {config.length}, width {config.width},"
    f" {counted(config.heads, 'head')}, rotary positions;"
    f" {task_setup.training_line(config.train)}"
  )
