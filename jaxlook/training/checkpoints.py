"""Checkpoints of a training run, by Orbax: the newest two, and chosen ones.

Each has the checksums of its files, which are checked before it is read. A
training run sets a damaged checkpoint aside and goes on from the one before.
"""

import contextlib
import errno
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from jaxlook.errors import DamagedError, RunFolderError
from jaxlook.numerals import counted
from jaxlook.runs import checksums, io_faults
from jaxlook.training import multihost

_STEP = re.compile(r"0|[1-9][0-9]*")
_ABOUT = re.compile(r"step (\d+)(?: of (.+))?")


class Checkpoints:
  """The checkpoints in a folder, written whole or not at all.

  Without a folder nothing is saved or restored. Processes that train together
  must all make the same calls.
  """

  def __init__(
    self,
    folder: Path | None,
    keep: Sequence[int] = (),
    *,
    of: str = "",
    alone: bool = False,
  ):
    """Opens the folder, and creates it if it is missing.

    Args:
      folder: the folder of the checkpoints.
      keep: steps to keep besides the newest two.
      of: identifies the run; checkpoints of another one are damaged. Empty if
        they are not told apart.
      alone: whether this process reads without the others.

    Raises:
      OSError: the folder cannot be read or created.
    """
    self._manager = None
    if folder is None:
      return
    self._folder, self._keep, self._of = folder, keep, of
    processes = ocp.options.MultiprocessingOptions()
    if alone:
      index = jax.process_index()
      processes = ocp.options.MultiprocessingOptions(index, {index})
      folder.mkdir(parents=True, exist_ok=True)
    with _of_orbax(folder):
      self._manager = ocp.CheckpointManager(
        folder.resolve(),
        options=ocp.CheckpointManagerOptions(
          preservation_policy=managers.AnyPreservationPolicy(
            [managers.LatestN(2), managers.CustomSteps(list(keep))]
          ),
          create=not alone,
          enable_async_checkpointing=False,
          multiprocessing_options=processes,
        ),
        item_handlers=ocp.StandardCheckpointHandler(
          multiprocessing_options=processes
        ),
      )

  def save(self, step: int, tree: Any) -> None:
    """Saves a tree of arrays as the state after `step` steps.

    Raises:
      OSError: it cannot be written; earlier checkpoints are unchanged.
    """
    if self._manager is None:
      return
    path = self._folder / str(step)
    with _of_orbax(path):
      saved = self._manager.save(step, args=ocp.args.StandardSave(tree))
    # Orbax does not save a step again.
    if saved and multihost.is_leader():
      files = (file for file in path.rglob("*") if file.is_file())
      names = [str(file.relative_to(path)) for file in files]
      about = f"step {step} of {self._of}" if self._of else f"step {step}"
      checksums.write(path, about, names)

  def drop_old(self) -> None:
    """Removes all checkpoints but the newest and the kept ones."""
    for step in self.steps()[:-1]:
      if self._manager is not None and step not in self._keep:
        with _of_orbax(self._folder / str(step)):
          self._manager.delete(step)

  def steps(self) -> list[int]:
    """Returns the steps of the checkpoints, ascending."""
    return [] if self._manager is None else sorted(self._manager.all_steps())

  def restore_newest(
    self, like: Any, warn: Callable[[str], None]
  ) -> tuple[int, Any] | None:
    """Reads the newest checkpoint that is not damaged.

    Damaged ones are renamed.

    Args:
      like: a tree with the shapes, dtypes and shardings to restore to.
      warn: called with one line for each damaged checkpoint.

    Returns:
      The number of steps taken and the tree; None if there is no checkpoint.

    Raises:
      RunFolderError: the checkpoint is of another run.
      OSError: a checkpoint cannot be read or renamed.
    """
    if self._manager is None:
      return None
    aside: list[str] = []
    restored = None
    while restored is None:
      newest = self._newest_whole(aside) if multihost.is_leader() else -1
      step = multihost.max_over_processes(newest)
      with _of_orbax(self._folder):
        self._manager.reload()
      if step < 0:
        break
      try:
        restored = step, self._read(step, like)
      except DamagedError as error:
        # Processes that read together cannot tell which of them has failed.
        if multihost.joined():
          raise
        aside.append(self._set_aside(step, error))
    start = f"step {restored[0]}" if restored else "the start"
    for line in aside:
      warn(f"{line}; training goes on from {start}")
    return restored

  def restore(self, like: Any, step: int) -> Any:
    """Reads one checkpoint.

    Args:
      like: a tree with the shapes, dtypes and shardings to restore to.
      step: the checkpoint's step.

    Returns:
      The tree.

    Raises:
      RunFolderError: the checkpoint is damaged, or of another run.
      OSError: it cannot be read.
    """
    self._check(step)
    return self._read(step, like)

  def close(self) -> None:
    """Releases the folder."""
    if self._manager is not None:
      self._manager.close()

  def _newest_whole(self, aside: list[str]) -> int:
    """Returns the newest step with right checksums, or -1.

    Args:
      aside: gets one line for each newer checkpoint, which is set aside.
    """
    names = (path.name for path in self._folder.iterdir())
    steps = [int(name) for name in names if _STEP.fullmatch(name)]
    for step in sorted(steps, reverse=True):
      try:
        self._check(step)
      except DamagedError as error:
        aside.append(self._set_aside(step, error))
      else:
        return step
    return -1

  def _check(self, step: int) -> None:
    """Raises DamagedError unless the files are those of this step and run."""
    path = self._folder / str(step)
    about = checksums.check(path)
    if about is None:
      # By an earlier version, or by a process that was killed before this file.
      return
    found = _ABOUT.fullmatch(about)
    of = found[2] if found else None
    if found is None or int(found[1]) != step:
      raise DamagedError(f"{path} was written as {about}")
    if of and self._of and of != self._of:
      raise DamagedError(f"{path} was written by another run")

  def _read(self, step: int, like: Any) -> Any:
    """Reads a checkpoint whose checksums are right, or that has none."""
    assert self._manager is not None
    path = self._folder / str(step)
    with io_faults.named(path):
      try:
        # Orbax does not check the shapes of NumPy arrays.
        _check_shapes(step, self._manager.item_metadata(step).tree, like)
        return self._manager.restore(step, args=ocp.args.StandardRestore(like))
      except (RunFolderError, MemoryError):
        raise
      # Orbax reports damage by errors of all kinds.
      except Exception as error:
        if io_faults.is_fault(error) or multihost.is_lost_process(error):
          raise
        # With right checksums, it is not the files that are wrong.
        if (path / checksums.NAME).exists():
          raise OSError(errno.EIO, "cannot be read", str(path)) from error
        raise DamagedError(f"{path} cannot be read") from error

  def _set_aside(self, step: int, error: DamagedError) -> str:
    """Renames a checkpoint and says so in a line."""
    path = self._folder / str(step)
    names = (f"{step}.damaged", *(f"{step}.damaged-{n}" for n in range(2, 99)))
    aside = next(
      path.with_name(name)
      for name in names
      if not path.with_name(name).exists()
    )
    path.rename(aside)
    return f"{error}; the checkpoint is now {aside}"


@contextlib.contextmanager
def _of_orbax(path: Path) -> Iterator[None]:
  """Names the path in Orbax's errors, which may be ValueErrors of its own."""
  try:
    with io_faults.named(path):
      yield
  except ValueError as error:
    reason = f"cannot be written: {' '.join(str(error).split())}"
    raise OSError(errno.EIO, reason, str(path)) from error


def _check_shapes(step: int, saved: Any, like: Any) -> None:
  """Raises RunFolderError unless two trees have the same names and shapes."""
  found, expected = _shapes(saved), _shapes(like)
  for name in found | expected:
    if found.get(name) != expected.get(name):
      raise RunFolderError(
        f"the checkpoint after {counted(step, 'step')} is of another run: its"
        f" {name} has shape {found.get(name)}, not {expected.get(name)}"
      )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every array, by its name in the tree."""
  leaves, _ = jax.tree.flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="."): tuple(
      np.shape(leaf)
    )
    for path, leaf in leaves
  }
