"""Checkpoints of a training run, by orbax: the newest whole one is kept."""

import pathlib
from typing import Any

import orbax.checkpoint as ocp


class Checkpoints:
  """The checkpoints in a folder, written whole or not at all."""

  def __init__(self, folder: pathlib.Path):
    """Opens the folder, making it where it is missing."""
    self._manager = ocp.CheckpointManager(
      folder.resolve(),
      options=ocp.CheckpointManagerOptions(
        max_to_keep=1, create=True, enable_async_checkpointing=False
      ),
    )

  def save(self, step: int, tree: Any) -> None:
    """Saves a tree of arrays as the state after `step` steps."""
    if self._manager.latest_step() != step:
      self._manager.save(step, args=ocp.args.StandardSave(tree))

  def restore(self, like: Any) -> tuple[int, Any] | None:
    """Reads the newest checkpoint.

    Args:
      like: a tree with the shapes, dtypes and shardings to restore to.

    Returns:
      The number of steps taken and the tree; None where nothing was saved.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    return step, self._manager.restore(
      step, args=ocp.args.StandardRestore(like)
    )

  def close(self) -> None:
    """Releases the folder."""
    self._manager.close()
