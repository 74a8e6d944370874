"""The pre-caching task as the binaries set it up: flags, scales, baselines.

Not a binary: `experiments.precache` and the studies train on it.
"""

import dataclasses
import functools
from collections.abc import Mapping

from experiments.common import (
  app,
  presets,
  shared_flags,
  task_setup,
)
from jaxlook.models import DecoderConfig
from jaxlook.models.config import Positions
from jaxlook.tasks.precache import Precache
from jaxlook.training import Problem, TrainConfig, baseline

UNIT = "Huber"
SOURCE = "Wu et al. 2024, arXiv 2404.00859, section 4"


@dataclasses.dataclass(frozen=True)
class PrecacheConfig(presets.Seeded):
  """A scale of an experiment on the pre-caching task.

  Attributes:
    p: by setting, probabilities that a position asks for the sum.
    terms: lag of the farthest sine, a.
    frequency: of the sines, b.
    length: positions a sequence, N.
    layers: layers of the model.
    width: width of its residual stream.
    heads: attention heads a layer.
    train: how the models are trained.
    first: lag of the nearest sine.
    positions: how the models tell positions.
  """

  p: tuple[float, ...]
  terms: int
  frequency: float
  length: int
  layers: int
  width: int
  heads: int
  train: TrainConfig
  first: int = 1
  positions: Positions = "learned"


PRESETS = {
  "smoke": PrecacheConfig(
    p=(0.5,),
    terms=2,
    frequency=2.0,
    length=8,
    layers=1,
    width=8,
    heads=2,
    seeds=2,
    train=TrainConfig(
      steps=20, batch_size=8, log_every=5, checkpoint_every=10, eval_batches=2
    ),
  ),
  "cpu": PrecacheConfig(
    p=(0.5,),
    terms=4,
    frequency=2.0,
    length=32,
    layers=2,
    width=64,
    heads=2,
    seeds=4,
    train=TrainConfig(
      steps=800, batch_size=64, learning_rate=1e-3, eval_batches=32
    ),
  ),
  # As published; the steps are 30 million sequences.
  "paper": PrecacheConfig(
    p=(1.0, 0.3, 0.1, 0.01),
    terms=10,
    frequency=10.0,
    length=64,
    layers=2,
    width=128,
    heads=2,
    seeds=3,
    train=TrainConfig(
      steps=58_593,
      batch_size=512,
      learning_rate=1e-3,
      log_every=200,
      checkpoint_every=5_000,
      eval_batches=97,
    ),
  ),
}


def build_config(
  by_preset: Mapping[str, PrecacheConfig] = PRESETS,
  held: presets.Held = presets.NEW_RUN,
) -> PrecacheConfig:
  """The preset with the flags' values.

  Args:
    by_preset: a config by preset.
    held: the config of the run that grows; its seeds are kept, and its `p` if
      there are several settings.

  Raises:
    UsageError: a flag's value cannot be used.
  """
  p = None
  if shared_flags.P.value is not None:
    p = tuple(dict.fromkeys(app.numbers("p", shared_flags.P.value, float)))
    if not p:
      raise app.UsageError("p", "must be at least one probability")
  if held.get("p"):
    p = tuple(dict.fromkeys((*held["p"], *(p or ()))))
  return presets.resolve(
    by_preset,
    held,
    p=p,
    terms=shared_flags.TERMS.value,
    frequency=shared_flags.FREQUENCY.value,
    first=shared_flags.FIRST.value,
    positions=shared_flags.POSITIONS.value,
  )


def task(config: PrecacheConfig, p: float) -> Precache:
  """The pre-caching task at one p."""
  return Precache(
    p=p,
    terms=config.terms,
    frequency=config.frequency,
    length=config.length,
    first=config.first,
  )


def model(config: PrecacheConfig) -> DecoderConfig:
  """The shape of its models."""
  return DecoderConfig(
    layers=config.layers,
    width=config.width,
    heads=config.heads,
    max_length=config.length,
    input_features=2,
    output_features=1,
    activation="relu",
    positions=config.positions,
  )


def problem(config: PrecacheConfig, p: float) -> Problem:
  """The pre-caching task at one p, with its model and training."""
  return task_setup.problem(
    task(config, p),
    model(config),
    train=config.train,
    seeds=config.seed_range,
    setting=f"p={p}" if len(config.p) > 1 else "",
    score=functools.partial(score, p),
  )


def score(p: float, loss: float) -> dict[str, float]:
  """The loss, and the loss for each position that asks for the sum."""
  return {"loss": loss} | ({"loss_over_p": loss / p} if p else {})


def baselines(problem: Problem) -> dict[str, dict[str, float]]:
  """Predicting zero everywhere, and x where z = 0 and zero elsewhere."""
  sums = problem.task
  if not isinstance(sums, Precache):
    raise TypeError(f"expected the pre-caching task, got {sums}")
  found = {"zero": baseline(problem, sums.zero_loss)}
  if sums.p < 1.0:
    found["zero where z=1"] = baseline(problem, sums.trivial_loss)
  return {name: score(sums.p, loss) for name, loss in found.items()}


def setup(config: PrecacheConfig) -> str:
  """Task, model and training in a line, for figures and reports."""
  lags = f"{config.first}..{config.terms}"
  return (
    f"y = sum of sin({config.frequency:g} x) over lags {lags}, asked for"
    f" with p = {', '.join(f'{p:g}' for p in config.p)};"
    f" N = {config.length}, {task_setup.shape_line(config)}, ReLU,"
    f" {config.positions} positions;"
    f" {task_setup.training_line(config.train)}"
  )
