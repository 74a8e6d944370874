"""Arms: a variant on a problem with all its seeds, stored when finished."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from jaxlook.attention import Variant
from jaxlook.errors import DamagedError, RunFolderError, SettingError
from jaxlook.keys import make_key
from jaxlook.models import Decoder
from jaxlook.runs import result_schema
from jaxlook.runs.arm import Arm
from jaxlook.runs.store import Arms, Store
from jaxlook.tasks.task import Batch
from jaxlook.training import multihost, optimizers, parts
from jaxlook.training.identity import describe
from jaxlook.training.loop import (
  Earlier,
  Trained,
  evaluate,
  mean_over_batches,
  train,
)
from jaxlook.training.mesh import MeshShape
from jaxlook.training.problem import Problem
from jaxlook.training.saved_arms import SavedArm, read_arm, read_cells
from jaxlook.training.step import Teacher


@dataclasses.dataclass(frozen=True)
class FinishedArm:
  """A trained and evaluated arm.

  Attributes:
    root: the arm's folder; see `saved`.
    attention: the variant.
    setting: the problem's setting.
    cells: the `cells` entries of result.json, one per seed.
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

  def saved(self) -> SavedArm:
    """The arm to be read back, with these seeds in this order.

    Raises:
      RunFolderError: see `read_arm`.
      OSError: see `read_arm`.
    """
    return read_arm(self.root, [cell["seed"] for cell in self.cells])

  @property
  def alive(self) -> list[bool]:
    """By seed, whether it did not diverge."""
    return [cell["status"] == "done" for cell in self.cells]


def arm_name(problem: Problem, variant: Variant) -> str:
  """Returns the name of an arm in a run: its setting, if any, and variant."""
  return " ".join(part for part in (problem.setting, variant.name) if part)


def find_arm(store: Arms, problem: Problem, variant: Variant) -> Arm:
  """Returns the place of a problem's seeds in a store; see `parts`.

  Args:
    store: see `begin_arm`.
    problem: see `begin_arm`; all its seeds are of one part.
    variant: see `begin_arm`.

  Raises:
    RunFolderError: the arm's config is damaged.
    OSError: it cannot be read.
  """
  return store.find_arm(*_place(store, problem, variant))


def _place(store: Arms, problem: Problem, variant: Variant) -> tuple[str, str]:
  """Returns the name of an arm and of the part; see `Arms.arm`."""
  name, longer = _training(store, problem, variant)
  root = store.find_arm(name, longer).root
  begun = parts.part_folders(root)
  if not begun or (
    root in begun and set(parts.seeds_of(root)) == set(problem.seeds)
  ):
    return name, longer
  if parts.split(root, problem.seeds) != [tuple(problem.seeds)]:
    raise RunFolderError(
      f"another run has begun some of the seeds {parts.spans(problem.seeds)} of"
      f" {root}; give the same command again"
    )
  return name, str(Path(longer) / parts.part_name(problem.seeds))


def _training(
  store: Arms, problem: Problem, variant: Variant
) -> tuple[str, str]:
  """Returns an arm's name, and the folder within it of this training.

  The folder's name is empty unless the arm has begun with fewer steps.
  """
  name = _name(store, problem, variant)
  for part in parts.part_folders(store.find_arm(name).root)[:1]:
    if optimizers.can_go_on(parts.train_of(part), problem.train):
      return name, parts.longer_name(problem.train.steps)
  return name, ""


def _shorter(store: Arms, problem: Problem, variant: Variant) -> list[Path]:
  """Returns the folders of an arm's shorter trainings, longest first."""
  name, longer = _training(store, problem, variant)
  if not longer:
    return []
  return [
    folder
    for folder in parts.trainings(store.find_arm(name).root)
    if parts.train_of(parts.part_folders(folder)[0]).steps < problem.train.steps
  ]


def _earlier(store: Arms, problem: Problem, variant: Variant) -> list[Earlier]:
  """Returns the shorter trainings of a part's seeds, longest first."""
  return [
    Earlier(arm.checkpoints, parts.train_of(part), arm.fingerprint)
    for folder in _shorter(store, problem, variant)
    for part in parts.part_folders(folder)
    if parts.seeds_of(part) == tuple(problem.seeds)
    for arm in [Arm(part)]
  ]


def _name(store: Arms, problem: Problem, variant: Variant) -> str:
  """Returns the name of an arm.

  A run with one setting gives it no name. When it grows, that arm keeps its
  folder.
  """
  name = arm_name(problem, variant)
  if problem.setting and not parts.part_folders(store.find_arm(name).root):
    for folder in parts.part_folders(store.find_arm(variant.name).root)[:1]:
      about = result_schema.plain(problem.about)
      if Arm(folder).config().get("task") == about:
        return variant.name
  return name


def in_parts(store: Arms, problem: Problem, variant: Variant) -> list[Problem]:
  """Cuts a problem into the parts of seeds that are trained together.

  Args:
    store: see `begin_arm`.
    problem: the problem to train on.
    variant: a variant for the problem's model.

  Returns:
    One for the seeds of each part that has begun, and one for the others.

  Raises:
    RunFolderError: the arm's config is damaged.
    OSError: it cannot be read.
  """
  root = store.find_arm(*_training(store, problem, variant)).root
  shorter = _shorter(store, problem, variant)
  return [
    dataclasses.replace(problem, seeds=seeds)
    for seeds in parts.split(root, problem.seeds, shorter)
  ]


def begin_arm(
  store: Arms,
  problem: Problem,
  variant: Variant,
  teacher: SavedArm | None = None,
) -> Arm:
  """Opens an arm in a store, and writes its config if it is new.

  Args:
    store: the run store, or its arms in a process that works for the holder of
      the store.
    problem: the problem to train on.
    variant: a variant for the problem's model.
    teacher: see `run_arm`.

  Returns:
    The arm, not trained yet.

  Raises:
    SettingError: the task or the score holds what is not made of data, so that
      it could not be told from another.
    ValueError: the store has this arm with another config.
  """
  name, part = _place(store, problem, variant)
  return store.arm(
    name,
    {
      "variant": variant.name,
      "setting": problem.setting if name != variant.name else "",
      "task": problem.about,
      "model": dataclasses.asdict(problem.model),
      "train": dataclasses.asdict(problem.train),
      "seeds": problem.seeds,
      "identity": {
        field: _identity(field, getattr(problem, field))
        for field in ("task", "score")
      },
    }
    | ({"teacher": teacher.variant} if teacher else {})
    | ({"barrier": problem.barrier} if problem.barrier else {})
    | ({"start": problem.start.about} if problem.start else {}),
    part,
    but=("seeds", "train") if parts.is_longer(part) else ("seeds",),
  )


def _identity(field: str, value: Any) -> Any:
  """Describes a field of a problem."""
  try:
    return describe(value)
  except ValueError as error:
    raise SettingError(
      field, f"holds what cannot be compared: {error}"
    ) from error


def run_arm(
  store: Arms,
  problem: Problem,
  variant: Variant,
  *,
  teacher: SavedArm | None = None,
  warn: Callable[[str], None] = warnings.warn,
  report: Callable[[int, np.ndarray], None] = lambda step, losses: None,
  should_stop: Callable[[], bool] = lambda: False,
  mesh: MeshShape | None = None,
) -> FinishedArm:
  """Trains, evaluates and stores an arm, or reads it if it is finished.

  Where the store holds some of the seeds, the others alone are trained. On one
  CPU each seed is bit-identical to what it were if all had been trained at
  once; elsewhere up to rounding.

  If several processes train together, each calls this with the same arguments;
  only the leader writes.

  Args:
    store: see `begin_arm`.
    problem: the problem to train on.
    variant: a variant for the problem's model.
    teacher: an arm of the same seeds, whose context the variant reads.
    warn: called with one line for each damaged checkpoint; see `train`.
    report: called during training with the step count and the losses [E]; once
      with the last step if the arm was finished before.
    should_stop: called between chunks of steps.
    mesh: see `train`; not part of the arm's config.

  Returns:
    The arm; it is the same if it is trained now or read.

  Raises:
    Stopped: `should_stop` returned true; a rerun continues from there.
    Unseen: the processes do not share the store's folder.
    InUse: another run trains the arm.
    RunFolderError: the store has this arm with another config, or a file of the
      finished arm is damaged.
    OSError: a file cannot be read or written.
  """
  return join_parts(
    store,
    problem,
    variant,
    [
      _run_part(store, part, variant, teacher, warn, report, should_stop, mesh)
      for part in in_parts(store, problem, variant)
    ],
  )


def join_parts(
  store: Arms,
  problem: Problem,
  variant: Variant,
  finished: Sequence[FinishedArm],
) -> FinishedArm:
  """Returns the finished parts of an arm as one arm.

  Args:
    store: see `begin_arm`.
    problem: the whole problem.
    variant: a variant for the problem's model.
    finished: the parts of `in_parts`, in any order.

  Returns:
    The arm, with its seeds in the problem's order.
  """
  named = {"setting": problem.setting} if problem.setting else {}
  cells = {
    cell["seed"]: cell | named for part in finished for cell in part.cells
  }
  order = [cell["seed"] for part in finished for cell in part.cells]
  losses = np.concatenate([part.losses for part in finished], axis=1)
  return FinishedArm(
    root=store.find_arm(*_training(store, problem, variant)).root,
    attention=variant,
    setting=problem.setting,
    cells=[cells[seed] for seed in problem.seeds],
    steps=finished[0].steps,
    losses=losses[:, [order.index(seed) for seed in problem.seeds]],
  )


def _run_part(
  store: Arms,
  problem: Problem,
  variant: Variant,
  teacher: SavedArm | None,
  warn: Callable[[str], None],
  report: Callable[[int, np.ndarray], None],
  should_stop: Callable[[], bool],
  mesh: MeshShape | None,
) -> FinishedArm:
  """Trains the seeds of one part, or reads it if it is finished."""
  arm = begin_arm(store, problem, variant, teacher)
  if not _is_finished(arm):
    with _held(store, arm):
      # Another run may have finished it since.
      if not _is_finished(arm):
        # A shorter training read another teacher.
        earlier = [] if teacher else _earlier(store, problem, variant)
        cells, table = _train_arm(
          arm,
          problem,
          variant,
          teacher,
          earlier,
          warn,
          report,
          should_stop,
          mesh,
        )
        steps, losses = _history(arm, table, problem.seeds)
        return FinishedArm(
          arm.root, variant, problem.setting, cells, steps, losses
        )
  arm.await_result()
  cells = read_cells(arm, problem.seeds)
  steps, losses = _history(arm, arm.metrics(), problem.seeds)
  report(int(steps[-1]), losses[-1])
  return FinishedArm(arm.root, variant, problem.setting, cells, steps, losses)


def _is_finished(arm: Arm) -> bool:
  """Whether an arm is finished, as the leader sees it.

  Other processes may see the leader's files only after a delay.
  """
  return bool(
    multihost.max_over_processes(multihost.is_leader() and arm.finished)
  )


@contextlib.contextmanager
def _held(store: Arms, arm: Arm) -> Iterator[None]:
  """Keeps an arm from other runs that use the store."""
  with contextlib.ExitStack() as stack:
    # A worker holds its arm already.
    if isinstance(store, Store):
      multihost.leader_first(
        lambda: stack.enter_context(arm.hold()), lambda: None
      )
    yield


def _train_arm(
  arm: Arm,
  problem: Problem,
  variant: Variant,
  teacher: SavedArm | None,
  earlier: Sequence[Earlier],
  warn: Callable[[str], None],
  report: Callable[[int, np.ndarray], None],
  should_stop: Callable[[], bool],
  mesh: MeshShape | None,
) -> tuple[list[dict[str, Any]], pa.Table]:
  """Trains, evaluates and stores an arm; returns its cells and loss history."""
  decoder = problem.decoder(variant)
  frozen = None
  if teacher is not None:
    frozen = Teacher(teacher.params(seeds=problem.seeds), teacher.decoder)
  trained = train(
    decoder,
    problem.task,
    problem.train,
    problem.seeds,
    teacher=frozen,
    start=problem.start.params if problem.start else None,
    feed=problem.feed,
    checkpoints=arm.checkpoints,
    about="" if arm.follows else arm.fingerprint,
    earlier=earlier,
    warn=warn,
    report=report,
    should_stop=should_stop,
    mesh=mesh,
  )
  table = _loss_table(trained, problem.seeds)
  cells = arm.write_result(
    {"cells": _cells(decoder, problem, variant, trained, frozen, mesh)}, table
  )["cells"]
  # Every process must see the result, because it may read the arm next.
  multihost.wait()
  arm.await_result()
  return cells, table


def held_out_key() -> jax.Array:
  """Returns the key of the held-out batches, different from all training keys.

  It is the same for every seed and variant. Seeds train on the first and second
  child of their own key; this is the last child of the key of seed 0.
  """
  return jax.random.fold_in(make_key(0), 2**32 - 1)


def held_out_losses(
  arm: SavedArm, problem: Problem, teacher: SavedArm | None = None
) -> list[float]:
  """Returns the mean loss of an arm on other held-out data.

  Args:
    arm: a finished arm.
    problem: its problem, with the other held-out data.
    teacher: the arm whose context the variant reads; None unless it needs one.

  Returns:
    One loss per seed, in the order of `arm.seeds`.
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
  """Returns held-out sequences in one batch, equal for all seeds and variants.

  Args:
    problem: has the task, and its held-out data if the host reads it.
    count: number of sequences, at least 1.

  Returns:
    `count` sequences, evenly spread over the held-out data, or all of them if
    there are fewer.
  """
  fed = None
  if problem.held_out is not None:
    windows = np.concatenate(problem.held_out)
    count = min(count, len(windows))
    fed = jnp.asarray(windows[np.arange(count) * len(windows) // count])
  return problem.task.batch(held_out_key(), count, fed)


def baseline(problem: Problem, loss: Callable[[Batch], jax.Array]) -> float:
  """Returns the mean of a loss that needs no model, on the held-out batches.

  Args:
    problem: has the held-out batches, the same as for its arms.
    loss: maps a batch to losses [B, T].

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


def _loss_table(trained: Trained, seeds: tuple[int, ...]) -> pa.Table:
  """Returns the loss history as a table with columns step, seed, loss."""
  rows, columns = trained.losses.shape
  return pa.table(
    {
      "step": np.repeat(trained.steps, columns),
      "seed": np.tile(np.asarray(seeds), rows),
      "loss": trained.losses.reshape(-1).astype(np.float64),
    }
  )


def _history(
  arm: Arm, table: pa.Table, seeds: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the steps [R] and the losses [R, E] of such a table."""
  with arm.explained():
    try:
      steps = np.unique(table["step"].to_numpy())
      losses = table["loss"].to_numpy(zero_copy_only=False)
      return steps, losses.reshape(len(steps), len(seeds))
    except (KeyError, ValueError) as error:
      raise DamagedError(
        f"{arm.root} has no training curves of {len(seeds)} seeds"
      ) from error


def _cells(
  decoder: Decoder,
  problem: Problem,
  variant: Variant,
  trained: Trained,
  teacher: Teacher | None,
  mesh: MeshShape | None,
) -> list[dict[str, Any]]:
  """Returns one cell per seed: held-out metrics, or the step of divergence."""
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
