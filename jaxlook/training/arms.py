"""One arm: a variant on a problem with all its seeds, stored when finished."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from jaxlook.attention import Variant
from jaxlook.attention.masks import Barrier
from jaxlook.errors import SettingError
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.runs.store import Arm, Arms
from jaxlook.tasks.task import Batch, Task
from jaxlook.training import multihost
from jaxlook.training.config import TrainConfig
from jaxlook.training.initial_weights import Start
from jaxlook.training.loop import (
  Trained,
  evaluate,
  mean_over_batches,
  train,
)
from jaxlook.training.mesh import Feed, MeshShape
from jaxlook.training.saved_arms import SavedArm
from jaxlook.training.step import Teacher


@dataclasses.dataclass(frozen=True)
class Problem:
  """What all variants of one setting share.

  Attributes:
    setting: what tells this problem from the others of an experiment.
    task: makes batches and their loss.
    model: the decoder's shape.
    train: how it is trained.
    seeds: each decides an init and a data order.
    score: turns the mean held-out loss into the metrics to report.
    about: plain data that identifies the task, for the arm's config.
    feed: reads what training steps need from the host; None for generated
      tasks.
    held_out: held-out data from the host, [batches, ...]; None for
      generated tasks.
    barrier: of the decoder; None for none.
    start: weights that all seeds start from; each seed's own by default.

  Raises:
    SettingError: `train.loss_tokens` is given for a model without logits.
  """

  setting: str
  task: Task
  model: DecoderConfig
  train: TrainConfig
  seeds: tuple[int, ...]
  score: Callable[[float], dict[str, float]]
  about: Mapping[str, Any]
  feed: Feed | None = None
  held_out: np.ndarray | None = None
  barrier: Barrier | None = None
  start: Start | None = None

  def __post_init__(self):
    """Refuses what the model cannot be trained with."""
    if self.train.loss_tokens and self.model.output_features is not None:
      raise SettingError(
        "loss_tokens",
        "must not be given for a model without logits over tokens",
      )

  def decoder(self, variant: Variant) -> Decoder:
    """The model under a variant, computing as the training says."""
    return Decoder(
      self.model,
      variant,
      barrier=self.barrier,
      bfloat16=self.train.bfloat16,
      remat=self.train.remat,
    )


@dataclasses.dataclass(frozen=True)
class FinishedArm:
  """A trained and evaluated arm.

  Attributes:
    root: the arm's folder; see `read_arm`.
    attention: the variant.
    setting: the problem's.
    cells: the `cells` entries of result.json, one a seed.
    steps: step count at the end of each row of `losses`, int [R].
    losses: mean training loss of each row and seed, float [R, E].
  """

  root: Path
  attention: Variant
  setting: str
  cells: list[dict[str, Any]]
  steps: np.ndarray
  losses: np.ndarray

  @property
  def variant(self) -> str:
    """The variant's name, for tables and messages."""
    return self.attention.name

  @property
  def alive(self) -> list[bool]:
    """By seed, whether it did not diverge."""
    return [cell["status"] == "done" for cell in self.cells]


def arm_name(problem: Problem, variant: Variant) -> str:
  """What an arm is called in a run: its setting, if any, and its variant."""
  return " ".join(part for part in (problem.setting, variant.name) if part)


def begin_arm(
  store: Arms,
  problem: Problem,
  variant: Variant,
  teacher: SavedArm | None = None,
) -> Arm:
  """The arm of a problem and a variant in a store, begun where it is new.

  Args:
    store: the run store, or its arms for a process that works for its holder.
    problem: what to train on.
    variant: of the problem's model.
    teacher: as of `run_arm`.

  Returns:
    The arm, with its config; nothing is trained or computed.

  Raises:
    ValueError: the store holds this arm with another config.
  """
  return store.arm(
    arm_name(problem, variant),
    {
      "variant": variant.name,
      "setting": problem.setting,
      "task": problem.about,
      "model": dataclasses.asdict(problem.model),
      "train": dataclasses.asdict(problem.train),
      "seeds": problem.seeds,
    }
    | ({"teacher": teacher.variant} if teacher else {})
    | ({"barrier": problem.barrier} if problem.barrier else {})
    | ({"start": problem.start.about} if problem.start else {}),
  )


def run_arm(
  store: Arms,
  problem: Problem,
  variant: Variant,
  *,
  teacher: SavedArm | None = None,
  report: Callable[[int, np.ndarray], None] = lambda step, losses: None,
  should_stop: Callable[[], bool] = lambda: False,
  mesh: MeshShape | None = None,
) -> FinishedArm:
  """Trains, evaluates and stores an arm, or reads it where it is finished.

  Processes that train together all call this with the same; the one whose store
  is not a follower's writes.

  Args:
    store: as of `begin_arm`.
    problem: what to train on.
    variant: of the problem's model.
    teacher: an arm of the same seeds, whose context the variant reads.
    report: called with the step count and the losses [E] as training goes on;
      once with the last step for an arm that was finished before.
    should_stop: asked between chunks of steps.
    mesh: which devices do what, as of `train`; no part of the arm's config.

  Returns:
    The arm, the same whether it was trained now or read.

  Raises:
    Stopped: `should_stop` said so; a rerun goes on from there.
    Unseen: the processes do not share the store's folder.
    ValueError: the store holds this arm with another config.
  """
  arm = begin_arm(store, problem, variant, teacher)
  # Processes may see different files for a while; the one that writes knows.
  trained_before = bool(
    multihost.max_over_processes(multihost.leads() and arm.finished)
  )
  if trained_before:
    arm.await_result()
    cells, table = arm.result()["cells"], arm.metrics()
  else:
    decoder = problem.decoder(variant)
    read = None
    if teacher is not None:
      read = Teacher(teacher.params(), teacher.decoder)
    trained = train(
      decoder,
      problem.task,
      problem.train,
      problem.seeds,
      teacher=read,
      start=problem.start.params if problem.start else None,
      feed=problem.feed,
      checkpoints=arm.checkpoints,
      report=report,
      should_stop=should_stop,
      mesh=mesh,
    )
    table = _curves(trained, problem.seeds)
    cells = arm.write_result(
      {"cells": _cells(decoder, problem, variant, trained, read, mesh)}, table
    )["cells"]
    # So that all processes find it, which may read it next.
    multihost.wait()
    arm.await_result()
  steps = np.unique(table["step"].to_numpy())
  losses = table["loss"].to_numpy(zero_copy_only=False)
  losses = losses.reshape(len(steps), len(problem.seeds))
  if trained_before:
    report(int(steps[-1]), losses[-1])
  return FinishedArm(arm.root, variant, problem.setting, cells, steps, losses)


def held_out_key() -> jax.Array:
  """The key of the held-out batches, which no training key descends from.

  It is the same for every seed and variant. Seeds train on the first and second
  child of their own key; this is the last child of the key of seed 0.
  """
  return jax.random.fold_in(jax.random.key(0), 2**32 - 1)


def held_out_losses(
  arm: SavedArm, problem: Problem, teacher: SavedArm | None = None
) -> list[float]:
  """The mean loss of an arm on held-out data that it was not evaluated on.

  Args:
    arm: a finished arm.
    problem: its problem, with the other held-out data.
    teacher: the arm whose context the variant reads; None unless it needs one.

  Returns:
    One a seed, in the order of `arm.seeds`.
  """
  losses_ExT = evaluate(
    problem.decoder(arm.attention),
    problem.task,
    problem.train,
    arm.params(),
    key=held_out_key(),
    fed=problem.held_out,
    teacher=Teacher(teacher.params(), teacher.decoder) if teacher else None,
  )
  return losses_ExT.mean(axis=1).tolist()


def held_out_batch(problem: Problem, count: int) -> Batch:
  """Held-out sequences in one batch, the same for every seed and variant.

  Args:
    problem: the task, and its held-out data if it is read from the host.
    count: number of sequences, at least 1.

  Returns:
    `count` sequences, evenly spread over the held-out data; fewer where there
    are not so many.
  """
  fed = None
  if problem.held_out is not None:
    windows = np.concatenate(problem.held_out)
    count = min(count, len(windows))
    fed = jnp.asarray(windows[np.arange(count) * len(windows) // count])
  return problem.task.batch(held_out_key(), count, fed)


def baseline(problem: Problem, loss: Callable[[Batch], jax.Array]) -> float:
  """The mean of a loss that no model is needed for, on the held-out batches.

  Args:
    problem: gives the held-out batches, the same as for its arms.
    loss: of a batch, [B, T].

  Returns:
    The mean over sequences and positions.
  """
  mean = mean_over_batches(
    problem.task,
    problem.train,
    lambda _, batch: jnp.mean(loss(batch)),
    None,
    key=held_out_key(),
    fed=problem.held_out,
  )
  return float(mean)


def _curves(trained: Trained, seeds: tuple[int, ...]) -> pa.Table:
  """The loss history as a table with columns step, seed, loss."""
  rows, columns = trained.losses.shape
  return pa.table(
    {
      "step": np.repeat(trained.steps, columns),
      "seed": np.tile(np.asarray(seeds), rows),
      "loss": trained.losses.reshape(-1).astype(np.float64),
    }
  )


def _cells(
  decoder: Decoder,
  problem: Problem,
  variant: Variant,
  trained: Trained,
  teacher: Teacher | None,
  mesh: MeshShape | None,
) -> list[dict[str, Any]]:
  """One cell a seed: its held-out metrics, or where it diverged."""
  losses_ExT = evaluate(
    decoder,
    problem.task,
    problem.train,
    trained.params,
    key=held_out_key(),
    fed=problem.held_out,
    teacher=teacher,
    mesh=mesh,
  )
  cells = []
  for seed, loss, diverged_at in zip(
    problem.seeds, losses_ExT.mean(axis=1), trained.diverged_at, strict=True
  ):
    diverged = int(diverged_at) >= 0 or not np.isfinite(loss)
    cell = {
      "variant": variant.name,
      "seed": seed,
      "metrics": {"diverged_at": int(diverged_at)}
      if diverged
      else problem.score(float(loss)),
      "status": "diverged" if diverged else "done",
    }
    if problem.setting:
      cell["setting"] = problem.setting
    cells.append(cell)
  return cells
