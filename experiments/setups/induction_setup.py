"""Repeated random sequences as `experiments.induction` trains on them.

Not a binary: its scales, its task and its two models.
"""

import dataclasses

from experiments.common import app, presets, task_setup
from jaxlook.models import DecoderConfig, scaled_init_std
from jaxlook.models.config import Positions
from jaxlook.tasks.induction import Induction
from jaxlook.training import Problem, TrainConfig

ONE_LAYER = "1 layer"
"""The setting of the control model."""


@dataclasses.dataclass(frozen=True)
class InductionConfig(presets.Seeded):
  """A scale of the experiment.

  Attributes:
    vocab_size: number of tokens.
    segment: tokens of the segment that is repeated.
    max_gap: the most tokens between a segment and its repeat.
    length: positions a sequence.
    layers: layers of the deeper model; the control has one.
    width: width of the residual stream.
    heads: attention heads a layer.
    sequences: held-out sequences that models are measured on.
    horizons: gradient horizons that are trained, positions.
    train: how the models are trained.
    positions: how the models tell positions.
  """

  vocab_size: int
  segment: int
  max_gap: int
  length: int
  layers: int
  width: int
  heads: int
  sequences: int
  horizons: tuple[int, ...]
  train: TrainConfig
  positions: Positions = "rotary"

  def task(self) -> Induction:
    """The task."""
    return Induction(
      vocab_size=self.vocab_size,
      segment=self.segment,
      max_gap=self.max_gap,
      length=self.length,
    )


PRESETS = {
  "smoke": InductionConfig(
    vocab_size=8,
    segment=4,
    max_gap=2,
    length=10,
    layers=2,
    width=16,
    heads=2,
    seeds=2,
    sequences=16,
    horizons=(1,),
    train=presets.small_training(
      steps=20, batch_size=8, log_every=10, keep_steps=(10, 20)
    ),
  ),
  "cpu": InductionConfig(
    # Shorter segments of fewer tokens are copied without matching a prefix;
    # see the notes of the report.
    vocab_size=64,
    segment=24,
    max_gap=8,
    length=56,
    layers=2,
    width=64,
    heads=4,
    seeds=4,
    sequences=128,
    # The token before; half of the nearest repeat, which two layers add up to
    # it; the nearest repeat; the farthest.
    horizons=(1, 12, 23, 31),
    train=presets.small_training(
      steps=800,
      batch_size=64,
      # Dense up to 300, as heads form around step 250.
      keep_steps=(50, 100, 150, 200, 250, 300, 400, 500, 600),
    ),
  ),
  "paper": InductionConfig(
    vocab_size=256,
    segment=64,
    max_gap=64,
    length=192,
    layers=2,
    width=256,
    heads=8,
    seeds=8,
    sequences=256,
    # Chosen as at `cpu`.
    horizons=(1, 32, 63, 127),
    train=presets.small_training(
      steps=10_000,
      batch_size=256,
      log_every=250,
      keep_steps=tuple(range(250, 10_000, 250)),
    ),
  ),
}


def build_config(
  positions: str | None, held: presets.Held = presets.NEW_RUN
) -> InductionConfig:
  """The preset with the flags' values.

  Args:
    positions: how the models tell positions; None for the preset's way.
    held: see `presets.resolve`.

  Raises:
    UsageError: a flag's value cannot be used.
  """
  config = presets.resolve(PRESETS, held, positions=positions)
  if config.layers < 2:
    raise app.UsageError(
      "layers",
      f"must be at least 2, not {config.layers}; the control has one layer",
    )
  return config


def problems(config: InductionConfig) -> tuple[Problem, Problem]:
  """The task with a model of one layer, and with one of `config.layers`."""
  return _problem(config, 1, ONE_LAYER), _problem(config, config.layers, "")


def _problem(config: InductionConfig, layers: int, setting: str) -> Problem:
  """The task with an attention-only model."""
  model = DecoderConfig(
    layers=layers,
    width=config.width,
    heads=config.heads,
    max_length=config.length,
    vocab_size=config.vocab_size,
    mlp_width=0,
    positions=config.positions,
    tied_head=False,
    init_std=scaled_init_std(config.width),
  )
  return task_setup.problem(
    config.task(),
    model,
    train=config.train,
    seeds=config.seed_range,
    setting=setting,
  )


def setup(config: InductionConfig) -> str:
  """Task, model and training in a line, for figures and reports."""
  low, high = config.task().distances
  return (
    f"segments of {config.segment} of {config.vocab_size} tokens, needed again"
    f" {low}..{high} positions later; attention only, {config.positions}"
    f" positions, {task_setup.shape_line(config)};"
    f" {task_setup.training_line(config.train)}"
  )
