"""Finished arms, read back from their folders."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxlook.attention import Variant, parse_variant
from jaxlook.attention.masks import Barrier
from jaxlook.errors import SettingError
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.runs.arm import Arm
from jaxlook.training.config import TrainConfig
from jaxlook.training.loop import saved_params


@dataclasses.dataclass(frozen=True)
class SavedArm:
  """The config of a finished arm, from its folder; see `read_arm`.

  Attributes:
    root: the arm's folder.
    attention: the variant.
    setting: the problem's setting.
    about: plain data that identifies the task.
    model: the decoder's shape.
    train: how it was trained.
    seeds: all seeds, including those that diverged.
    barrier: the decoder's barrier; None for none.
    start: data that identifies the weights from which all seeds started; None
      if each seed drew its own.
  """

  root: Path
  attention: Variant
  setting: str
  about: Mapping[str, Any]
  model: DecoderConfig
  train: TrainConfig
  seeds: tuple[int, ...]
  barrier: Barrier | None = None
  start: Mapping[str, Any] | None = None

  @property
  def variant(self) -> str:
    """The variant's name, for tables and messages."""
    return self.attention.name

  @property
  def decoder(self) -> Decoder:
    """The model under its variant; always float32."""
    return Decoder(self.model, self.attention, barrier=self.barrier)

  @property
  def kept_steps(self) -> list[int]:
    """The steps that `params` can always read: 0, `keep_steps`, the last."""
    return sorted({0, *self.train.keep_steps, self.train.steps})

  def params(self, step: int | None = None) -> Any:
    """Returns the parameters after a step, with a leading seed axis E.

    Args:
      step: 0, or a step with a checkpoint; the last by default.

    Raises:
      SettingError: there is no checkpoint of that step.
    """
    if step == 0 and self.start is not None:
      raise SettingError(
        "step",
        "must be above 0, because the pretrained weights from which these"
        f" models started are not in {self.root}",
      )
    return saved_params(
      self.root / "checkpoints", self.model, self.train, self.seeds, step
    )


def read_arm(root: Path) -> SavedArm:
  """Reads an arm that `run_arm` has finished.

  Args:
    root: the arm's folder, `arms/VARIANT` of a run.

  Returns:
    The arm's config; parameters are read on demand.

  Raises:
    ValueError: the folder has no finished arm of this version.
  """
  arm = Arm(root)
  if not arm.finished:
    raise ValueError(f"{root} has no finished arm")
  try:
    config = arm.config()
    train = dict(config["train"])
    train["keep_steps"] = tuple(train["keep_steps"])
    model = DecoderConfig(**config["model"])
    return SavedArm(
      root=root,
      attention=parse_variant(config["variant"], model.layers, model.heads),
      setting=config["setting"],
      about=config["task"],
      model=model,
      train=TrainConfig(**train),
      seeds=tuple(config["seeds"]),
      barrier=tuple(config["barrier"]) if "barrier" in config else None,
      start=config.get("start"),
    )
  except (KeyError, TypeError, SettingError) as error:
    raise ValueError(f"{root} is of another version: {error}") from error
