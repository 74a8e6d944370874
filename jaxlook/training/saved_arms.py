"""Finished arms, read back from their folders."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.attention import Variant, parse_variant
from jaxlook.attention.masks import Barrier
from jaxlook.errors import DamagedError, RunFolderError, SettingError
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.runs.arm import Arm
from jaxlook.training import parts
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
    parts: the folders of seeds that were trained together, in order; the arm's
      own by default.
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
  parts: tuple[Path, ...] = ()

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

  def params(
    self, step: int | None = None, seeds: Sequence[int] | None = None
  ) -> Any:
    """Returns the parameters after a step, with a leading seed axis E.

    Args:
      step: 0, or a step with a checkpoint; the last by default.
      seeds: some of the arm's seeds; all by default.

    Raises:
      SettingError: there is no checkpoint of that step, or the arm has no such
        seed.
      RunFolderError: the checkpoint is damaged.
      OSError: it cannot be read.
    """
    if step == 0 and self.start is not None:
      raise SettingError(
        "step",
        "must be above 0, because the pretrained weights from which these"
        f" models started are not in {self.root}",
      )
    if missing := set(seeds or ()) - set(self.seeds):
      raise SettingError(
        "seeds", f"must be of {self.root}, not {sorted(missing)}"
      )
    read = [self._params(root, step) for root in self._folders]
    held = [seed for root in self._folders for seed in parts.seeds_of(root)]
    asked = list(self.seeds if seeds is None else seeds)
    if len(read) == 1 and held == asked:
      return read[0]
    kept = [held.index(seed) for seed in asked]
    return jax.tree.map(lambda *x: jnp.concatenate(x)[np.array(kept)], *read)

  @property
  def _folders(self) -> tuple[Path, ...]:
    return self.parts or (self.root,)

  def _params(self, root: Path, step: int | None) -> Any:
    """Returns the parameters of one part."""
    arm, last = Arm(root), self.train.steps
    with arm.explained():
      if step is None and not (arm.checkpoints / str(last)).exists():
        raise DamagedError(f"{arm.checkpoints} has no checkpoint {last}")
      return saved_params(
        arm.checkpoints,
        self.model,
        self.train,
        parts.seeds_of(root),
        last if step is None else step,
        arm.fingerprint,
      )

  def cells(self) -> list[dict[str, Any]]:
    """Returns the `cells` entries of result.json, one per seed.

    Raises:
      RunFolderError: a file of the arm is damaged.
      OSError: a file cannot be read.
    """
    cells = {
      cell["seed"]: cell
      for root in self._folders
      for cell in read_cells(Arm(root), parts.seeds_of(root))
    }
    return [cells[seed] for seed in self.seeds]


def read_cells(arm: Arm, seeds: Sequence[int]) -> list[dict[str, Any]]:
  """Returns the cells of a finished arm, one for each of its seeds.

  Args:
    arm: the arm.
    seeds: its seeds.

  Raises:
    RunFolderError: a file of the arm is damaged.
    OSError: a file cannot be read.
  """
  cells: Any = arm.result().get("cells")
  with arm.explained():
    try:
      found = [cell["seed"] for cell in cells]
    except (KeyError, TypeError):
      found = None
    if found != list(seeds):
      raise DamagedError(
        f"{arm.root} has results of the seeds {found}, not of {list(seeds)}"
      )
  return cells


def has_finished(root: Path) -> bool:
  """Returns whether `read_arm` finds seeds in an arm's folder.

  Raises:
    RunFolderError: the config of a part is damaged.
    OSError: the folder cannot be read.
  """
  return any(Arm(each).finished for each in parts.part_folders(root))


def read_arms(folder: Path) -> list[SavedArm]:
  """Reads all arms of a run folder that are finished.

  Args:
    folder: the run folder.

  Returns:
    The arms by name, all after the same number of steps: the largest that every
    arm has. Without one, each arm after its longest training.

  Raises:
    RunFolderError: see `read_arm`.
    OSError: see `read_arm`.
  """
  found = [
    {
      parts.train_of(parts.part_folders(each)[0]).steps: each
      for each in parts.trainings(root)
      if has_finished(each)
    }
    for root in sorted((folder / "arms").iterdir())
  ]
  found = [trainings for trainings in found if trainings]
  common = set.intersection(*map(set, found)) if found else set()
  return [read_arm(trainings[max(common or trainings)]) for trainings in found]


def read_arm(root: Path, seeds: Sequence[int] | None = None) -> SavedArm:
  """Reads an arm that `run_arm` has finished, with all parts that are finished.

  Args:
    root: the arm's folder, `arms/VARIANT` of a run.
    seeds: which of its seeds, all of some parts; by default all that are
      finished.

  Returns:
    The arm's config; parameters are read on demand.

  Raises:
    RunFolderError: the folder has no finished arm of this version, or a file is
      damaged.
    OSError: a file cannot be read.
  """
  finished = [each for each in parts.part_folders(root) if Arm(each).finished]
  if seeds is not None:
    finished = [
      each for each in finished if {*parts.seeds_of(each)} <= {*seeds}
    ]
  if not finished:
    raise RunFolderError(f"{root} has no finished arm")
  held = [seed for each in finished for seed in parts.seeds_of(each)]
  if len(held) > len(set(held)) or (seeds is not None and {*held} != {*seeds}):
    raise RunFolderError(
      f"{root} has results of the seeds {held}, not of {seeds or 'each once'}"
    )
  for each in finished:
    Arm(each).result()
  try:
    config = Arm(finished[0]).config()
    model = DecoderConfig(**config["model"])
    return SavedArm(
      root=root,
      attention=parse_variant(config["variant"], model.layers, model.heads),
      setting=config["setting"],
      about=config["task"],
      model=model,
      train=parts.train_of(finished[0]),
      seeds=tuple(held if seeds is None else seeds),
      barrier=tuple(config["barrier"]) if "barrier" in config else None,
      start=config.get("start"),
      parts=tuple(finished),
    )
  except (KeyError, TypeError, SettingError) as error:
    raise RunFolderError(f"{root} is of another version: {error}") from error
