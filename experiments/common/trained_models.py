"""Reads trained models: arms of a run folder, or a Hugging Face folder.

Not a binary. `--model` names the folder, `--attention` the arms of a run and
`--step` how long they had been trained.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common import app, shared_flags
from experiments.common.shared_flags import STEP
from jaxlook import models
from jaxlook.attention import Variant, parse_variant
from jaxlook.keys import make_key
from jaxlook.models import Decoder, huggingface
from jaxlook.training import (
  Problem,
  SavedArm,
  held_out_batch,
  read_arms,
  saved_params,
)
from jaxlook.training.step import position_losses

UNTRAINED = "untrained"
PRETRAINED = "pretrained"
_CHECKED = 8  # Sequences on which a pretrained model's losses are looked at.


@dataclasses.dataclass(frozen=True)
class Subject:
  """A variant's models, one for each seed that did not diverge.

  Attributes:
    variant: what tables call them: the variant's name, `UNTRAINED` or
      `PRETRAINED`.
    decoder: the model under its variant.
    params: parameters with a leading seed axis E.
    seeds: the seeds of that axis.
    arm: the folder they are from; None for pretrained ones.
  """

  variant: str
  decoder: Decoder
  params: Any
  seeds: tuple[int, ...]
  arm: SavedArm | None = None

  def at(self, step: int) -> "Subject":
    """The same seeds after another step; `UNTRAINED` after none."""
    if self.arm is None:
      raise ValueError(f"{self.variant} models have no other steps")
    return dataclasses.replace(
      self,
      variant=self.variant if step else UNTRAINED,
      params=_of_seeds(self.arm.params(step), self.arm, self.seeds),
    )

  def untrained(self) -> "Subject":
    """Fresh models of the same seeds: the control of every probe."""
    if self.arm is not None:
      # Drawn from the seeds even where the arm started from other weights.
      fresh = saved_params(
        self.arm.root, self.arm.model, self.arm.train, self.arm.seeds, step=0
      )
      params = _of_seeds(fresh, self.arm, self.seeds)
    else:
      params = models.init(self.decoder.config, make_key(0))
      params = jax.tree.map(lambda x: x[None], params)
    return dataclasses.replace(self, variant=UNTRAINED, params=params)


def is_run(folder: Path) -> bool:
  """Whether a folder is a run's, and not a Hugging Face folder."""
  # Unlike Path's method, this refuses no name.
  return os.path.isdir(folder / "arms")


@contextlib.contextmanager
def reading_weights(
  flag: str, folder: Path, *, or_runs: bool = False
) -> Iterator[None]:
  """Blames a flag for a folder that should hold pretrained weights.

  Args:
    flag: names the folder.
    folder: a Hugging Face folder, or what was mistaken for one.
    or_runs: whether the flag takes run folders, too.

  Yields:
    Nothing.

  Raises:
    UsageError: the body cannot read the folder. If it is a run folder, or lies
      in one, that is said.
  """
  with app.blaming(flag):
    try:
      yield
    except (ValueError, OSError) as error:
      whole = folder.resolve()
      for run in (whole, *whole.parents):
        if is_run(run) and (run / "config.json").is_file():
          raise ValueError(_of_run(folder, run, or_runs=or_runs)) from error
      raise


def _of_run(folder: Path, run: Path, *, or_runs: bool) -> str:
  """Says what to give in the place of a run folder, or of a part of it."""
  what = "a run folder"
  if folder.resolve() != run:
    what = f"a part of the run folder {run}"
  if or_runs:
    return f"{folder} is {what}; give the whole, and choose with --attention"
  return (
    f"{folder} is {what}; give a Hugging Face folder, with config.json and"
    " model.safetensors"
  )


def finished_arms(folder: Path) -> list[SavedArm]:
  """All finished arms of a run folder.

  Raises:
    UsageError: there is none, or one is of another version.
  """
  with app.blaming("model"):
    arms = read_arms(folder)
    if not arms:
      raise ValueError(f"{folder} holds no finished arm")
  return arms


def chosen_arms(
  arms: Sequence[SavedArm], folder: Path, default: Sequence[Variant] = ()
) -> list[SavedArm]:
  """The arms that `--attention` names, in its order.

  Args:
    arms: of models of one shape, at least one.
    folder: the run folder, for messages.
    default: the variants to take without `--attention`; all by default. Models
      that read a teacher are never taken.

  Returns:
    One arm for each distinct variant.

  Raises:
    UsageError: `--attention` names an arm that is not there.
  """
  known = {
    arm.attention: arm for arm in arms if not arm.attention.needs_teacher
  }
  asked = list(default) or list(known)
  if shared_flags.ATTENTION.value:
    layers, heads = arms[0].model.layers, arms[0].model.heads
    asked = [
      parse_variant(text, layers, heads)
      for text in shared_flags.ATTENTION.value
    ]
  for variant in asked:
    if variant not in known:
      names = ", ".join(each.name for each in known)
      raise app.UsageError(
        "attention", f"{folder} has no {variant.name!r}, only {names}"
      )
  return [known[variant] for variant in dict.fromkeys(asked)]


def trained(arm: SavedArm) -> Subject:
  """The models of an arm, after `--step` if it is given.

  Raises:
    UsageError: all seeds diverged, or there is no checkpoint of that step.
  """
  with app.blaming("model"):
    cells = arm.cells()
  alive = {cell["seed"] for cell in cells if cell["status"] == "done"}
  seeds = tuple(seed for seed in arm.seeds if seed in alive)
  if not seeds:
    raise app.UsageError("seeds", f"all seeds of {arm.variant} diverged")
  with app.blaming("model"):
    params = arm.params(STEP.value)
  return Subject(
    variant=arm.variant if STEP.value != 0 else UNTRAINED,
    decoder=arm.decoder,
    params=_of_seeds(params, arm, seeds),
    seeds=seeds,
    arm=arm,
  )


def pretrained(folder: Path) -> Subject:
  """The one model of a Hugging Face folder.

  Raises:
    UsageError: the folder cannot be read.
  """
  with reading_weights("model", folder, or_runs=True):
    loaded = huggingface.load(folder)
  params = jax.tree.map(lambda x: np.asarray(x)[None], loaded.params)
  return Subject(PRETRAINED, Decoder(loaded.config), params, seeds=(0,))


def check_losses(subject: Subject, problem: Problem, folder: Path) -> None:
  """Refuses a model whose numbers overflow: measures of it mean nothing.

  Args:
    subject: the one model of a Hugging Face folder.
    problem: the text that it is studied on.
    folder: where it is from.

  Raises:
    UsageError: it gives a loss that is NaN or infinite.
  """
  batch = held_out_batch(problem, _CHECKED)
  params = jax.tree.map(lambda x: x[0], subject.params)
  losses = jax.jit(
    lambda params: position_losses(subject.decoder, problem.task, params, batch)
  )(params)
  if not np.isfinite(losses).all():
    raise app.UsageError(
      "model", f"{folder} gives losses that are not finite on this text"
    )


def diverged_seeds(subjects: Sequence[Subject]) -> dict[str, list[int]]:
  """The seeds of each variant that diverged; no entry where none did."""
  found = {}
  for each in subjects:
    every = each.arm.seeds if each.arm is not None else each.seeds
    gone = [seed for seed in every if seed not in each.seeds]
    if gone and each.variant != UNTRAINED:
      found[each.variant] = gone
  return found


def _of_seeds(params: Any, arm: SavedArm, seeds: Sequence[int]) -> Any:
  """The parameters of some of an arm's seeds."""
  kept = np.array([arm.seeds.index(seed) for seed in seeds])
  return jax.tree.map(lambda x: np.asarray(x)[kept], params)
