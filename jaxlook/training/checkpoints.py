"""Checkpoints of a training run, by Orbax: the newest, and chosen ones."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers


class Checkpoints:
  """The checkpoints in a folder, written whole or not at all.

  Without a folder nothing is saved or restored. Processes that train together
  must all make the same calls.
  """

  def __init__(
    self,
    folder: pathlib.Path | None,
    keep: Sequence[int] = (),
    *,
    alone: bool = False,
  ):
    """Opens the folder, and creates it if it is missing.

    Args:
      folder: the folder of the checkpoints.
      keep: steps to keep besides the newest.
      alone: whether this process reads without the others.
    """
    self._manager = None
    if folder is not None:
      processes = ocp.options.MultiprocessingOptions()
      if alone:
        index = jax.process_index()
        processes = ocp.options.MultiprocessingOptions(index, {index})
        folder.mkdir(parents=True, exist_ok=True)
      self._manager = ocp.CheckpointManager(
        folder.resolve(),
        options=ocp.CheckpointManagerOptions(
          preservation_policy=managers.AnyPreservationPolicy(
            [managers.LatestN(1), managers.CustomSteps(list(keep))]
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
    """Saves a tree of arrays as the state after `step` steps."""
    if self._manager is not None:
      self._manager.save(step, args=ocp.args.StandardSave(tree))

  def steps(self) -> list[int]:
    """Returns the steps of the checkpoints, ascending."""
    return [] if self._manager is None else sorted(self._manager.all_steps())

  def restore(
    self, like: Any, step: int | None = None
  ) -> tuple[int, Any] | None:
    """Reads a checkpoint.

    Args:
      like: a tree with the shapes, dtypes and shardings to restore to.
      step: the checkpoint's step; the newest by default.

    Returns:
      The number of steps taken and the tree; None if there is no checkpoint.

    Raises:
      ValueError: the checkpoint has other names or shapes.
    """
    if step is None and self._manager is not None:
      step = self._manager.latest_step()
    if self._manager is None or step is None:
      return None
    # Orbax does not check the shapes of NumPy arrays.
    saved = _shapes(self._manager.item_metadata(step).tree)
    expected = _shapes(like)
    for name in saved | expected:
      if saved.get(name) != expected.get(name):
        raise ValueError(
          f"the checkpoint after {step} steps is of another run: its {name} has"
          f" shape {saved.get(name)}, not {expected.get(name)}"
        )
    return step, self._manager.restore(
      step, args=ocp.args.StandardRestore(like)
    )

  def close(self) -> None:
    """Releases the folder."""
    if self._manager is not None:
      self._manager.close()


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every array, by its name in the tree."""
  leaves, _ = jax.tree.flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="."): tuple(
      np.shape(leaf)
    )
    for path, leaf in leaves
  }
