"""The scales of a binary, and how flags change them.

Not a binary. A preset is a config dataclass; a flag replaces the field of its
name, there or in the config's `train`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from absl import flags

from experiments.common import shared_flags
from jaxlook.errors import SettingError
from jaxlook.training import TrainConfig, optimizers

_T = TypeVar("_T")

Held = Mapping[str, Any]
"""The config of a run that grows; see `run_folder.held`."""
NEW_RUN: Held = MappingProxyType({})
"""That of a run that begins."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seeded:
  """What the scale of every experiment has.

  Attributes:
    seeds: number of seeds.
    seed_offset: the first seed.
  """

  seeds: int
  seed_offset: int = 0

  @property
  def seed_range(self) -> range:
    """The seeds in order."""
    return range(self.seed_offset, self.seed_offset + self.seeds)


# How small models are trained, but for steps and batch.
small_training = functools.partial(
  TrainConfig, learning_rate=3e-3, warmup_fraction=0.05, clip_norm=1.0
)


def chosen(by_preset: Mapping[str, _T]) -> _T:
  """What belongs to the preset that `--preset` names."""
  return by_preset[shared_flags.PRESET.value]


def values(by_preset: Mapping[str, Any], **more: Any) -> dict[str, Any]:
  """What the chosen preset says, for `--help`.

  Args:
    by_preset: a config dataclass by preset.
    **more: other defaults, by flag.

  Returns:
    By name, the fields of the config, of its `train`, and the others.
  """
  config = chosen(by_preset)
  train = getattr(config, "train", None)
  return {
    field.name: getattr(each, field.name)
    for each in (config, *([train] if train else []))
    for field in dataclasses.fields(each)
  } | more


def replaced(by_preset: Mapping[str, Any], **given: Any) -> Any:
  """The preset's config with the fields replaced that are given.

  Args:
    by_preset: a config dataclass by preset.
    **given: by field, the value of a flag; None where it was not given.
  """
  given = {name: value for name, value in given.items() if value is not None}
  return dataclasses.replace(chosen(by_preset), **given)


def resolve(
  by_preset: Mapping[str, Any],
  held: Held = NEW_RUN,
  **given: Any,
) -> Any:
  """The preset's config with the fields replaced whose flag was given.

  Args:
    by_preset: a config dataclass by preset; its `train` is a `TrainConfig`.
    held: the config of the run that grows; its seeds are kept.
    **given: by field, what an experiment's own flag says; None where it was
      not given. The flags of seeds and shape need not be named.

  Returns:
    The config with the flags' values.

  Raises:
    SettingError: a flag's value is out of range, or fewer seeds are asked for
      than the run has.
  """
  given |= _given(("seeds", "seed_offset", *shared_flags.SHAPE))
  seeds = held.get("seeds", 0)
  if given.get("seeds", seeds) < seeds:
    raise SettingError(
      "seeds", f"must be at least the {seeds} of the run that is there"
    )
  if seeds:
    given.setdefault("seeds", seeds)
  train = resolve_train(chosen(by_preset).train, held)
  return replaced(by_preset, **given, train=train)


def resolve_train(train: TrainConfig, held: Held = NEW_RUN) -> TrainConfig:
  """The preset's training with the flags' values.

  Args:
    train: what a preset says, for experiments that train in several ways.
    held: the config of the run that grows; its steps are kept.

  Returns:
    The same with the values of those training flags that are given.

  Raises:
    SettingError: a flag's value is out of range.
  """
  given = _given(shared_flags.TRAINING)
  if given.get("schedule", train.schedule) == "wsd":
    # Of the preset's steps, so that more steps have the same warm-up.
    if held.get("train"):
      given.setdefault("steps", held["train"]["steps"])
    most = given.get("steps", train.steps) - 1
    given["warmup_steps"] = min(optimizers.warmup_steps(train), most)
  if "steps" in given:
    kept = (step for step in train.keep_steps if step <= given["steps"])
    given["keep_steps"] = tuple(kept)
  return dataclasses.replace(train, **given)


def _given(names: tuple[str, ...]) -> dict[str, Any]:
  """The values of those flags that are not left to the preset."""
  found = {name: flags.FLAGS[name].value for name in names}
  return {name: value for name, value in found.items() if value is not None}
