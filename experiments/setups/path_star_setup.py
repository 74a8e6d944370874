"""Path-star graphs as `experiments.path_star` trains on them.

Not a binary: its scales, its problems, and which arms are trained.
"""

import dataclasses
from collections.abc import Sequence

from experiments.common import presets, task_setup
from jaxlook.attention import Variant
from jaxlook.models import DecoderConfig, scaled_init_std
from jaxlook.planning.stars.settings import (
  COMPARED,
  FORWARD,
  IN_WEIGHTS,
  SETTINGS,
  WEIGHTS,
  Graphs,
)
from jaxlook.training import Problem, TrainConfig


@dataclasses.dataclass(frozen=True)
class PathStarConfig(presets.Seeded):
  """A scale of the experiment.

  Attributes:
    graphs: shapes of the graphs.
    layers: layers of the model.
    width: width of its residual stream.
    heads: attention heads a layer.
    sequences: held-out graphs that are measured, in the context.
    train: training on graphs in the context.
    train_weights: training on one graph in the weights.
    settings: what is trained on, of `SETTINGS`.
  """

  graphs: Graphs
  layers: int
  width: int
  heads: int
  sequences: int
  train: TrainConfig
  train_weights: TrainConfig
  settings: tuple[str, ...] = SETTINGS


PRESETS = {
  "smoke": PathStarConfig(
    graphs=Graphs(degree=2, path_length=3, node_count=6, arms=8, arm_length=3),
    layers=1,
    width=16,
    heads=2,
    seeds=2,
    sequences=8,
    train=presets.small_training(steps=4, batch_size=4),
    train_weights=presets.small_training(steps=4, batch_size=4),
    settings=(FORWARD, WEIGHTS),
  ),
  "cpu": PathStarConfig(
    graphs=Graphs(
      degree=2, path_length=4, node_count=12, arms=256, arm_length=4
    ),
    layers=2,
    width=64,
    heads=4,
    seeds=3,
    sequences=256,
    train=presets.small_training(steps=2000, batch_size=64),
    train_weights=presets.small_training(steps=1500, batch_size=256),
  ),
  # As published: 200,000 graphs 100 times over; 5 x 10^4 nodes in the weights.
  "paper": PathStarConfig(
    graphs=Graphs(
      degree=2, path_length=5, node_count=50, arms=12_500, arm_length=5
    ),
    layers=6,
    width=384,
    heads=6,
    seeds=5,
    sequences=2000,
    train=presets.small_training(
      steps=78_000, batch_size=256, learning_rate=1e-4
    ),
    train_weights=presets.small_training(
      steps=100_000, batch_size=1024, learning_rate=1e-4
    ),
  ),
}


def build_config(
  settings: Sequence[str] | None,
  held: presets.Held = presets.NEW_RUN,
) -> PathStarConfig:
  """The preset with the flags' values.

  Args:
    settings: what to train on; None for the preset's.
    held: see `presets.resolve`.

  Raises:
    UsageError: a flag's value cannot be used.
  """
  config = presets.resolve(PRESETS, held)
  return dataclasses.replace(
    config,
    train_weights=presets.resolve_train(config.train_weights),
    settings=tuple(dict.fromkeys(settings or config.settings)),
  )


def problem(config: PathStarConfig, setting: str) -> Problem:
  """The task of a setting with its model and training."""
  task = config.graphs.task(setting)
  model = DecoderConfig(
    layers=config.layers,
    width=config.width,
    heads=config.heads,
    max_length=task.length,
    vocab_size=task.vocab_size,
    init_std=scaled_init_std(config.width),
  )
  return task_setup.problem(
    task,
    model,
    train=config.train_weights if setting in IN_WEIGHTS else config.train,
    seeds=config.seed_range,
    setting=setting,
  )


def arms_to_train(
  problems: Sequence[Problem],
  variants: Sequence[Variant],
  *,
  compare_everywhere: bool,
) -> list[tuple[Problem, Variant]]:
  """Problem and variant of each arm.

  Args:
    problems: one for each setting.
    variants: causal first.
    compare_everywhere: whether every variant is trained in every setting, as
      where `--attention` names them; else only in those of `COMPARED`.

  Returns:
    The arms; in other settings causal alone.
  """
  return [
    (problem, variant)
    for problem in problems
    for place, variant in enumerate(variants)
    if place == 0 or compare_everywhere or problem.setting in COMPARED
  ]


def setup(config: PathStarConfig) -> str:
  """Tasks, model and training in a line, for figures and reports."""
  graphs, train, in_weights = config.graphs, config.train, config.train_weights
  return (
    f"in context G({graphs.degree}, {graphs.path_length}) of"
    f" {graphs.node_count} labels, {train.steps} steps of {train.batch_size}"
    f" graphs; in weights G({graphs.arms}, {graphs.arm_length}),"
    f" {in_weights.steps} steps of {in_weights.batch_size} items;"
    f" {task_setup.shape_line(config)};"
    f" {task_setup.optimizer_line(train)}"
  )
