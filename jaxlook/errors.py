"""Errors of settings, token ids and run folders that cannot be used."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer


class SettingError(ValueError):
  """A setting has a value that cannot be used.

  The text of the error is one line: the field, then the message. A program that
  reads the setting from elsewhere, say from a flag, can name that instead.

  Attributes:
    field: name of the setting.
    message: what is wrong with its value and what would be right; it follows
      the name, as in "must be at least 1, not 0".
  """

  def __init__(self, field: str, message: str):
    """Keeps the name, and the message in one line."""
    super().__init__(field, message)
    self.field = field
    self.message = " ".join(message.split())

  def __str__(self) -> str:
    """The field and the message."""
    return f"{self.field} {self.message}"


def check_ids(vocab_size: int | None, ids: Any) -> None:
  """Refuses token ids that are not in the vocabulary.

  JAX would read another token, or give NaN. Traced ids have no values yet, so
  functions that compile call this before.

  Args:
    vocab_size: number of tokens, V; None for a model that reads features.
    ids: integers of any shape, or anything traced.

  Raises:
    ValueError: an id is below 0, or V or above, or not a whole number.
  """
  if vocab_size is None or isinstance(ids, Tracer):
    return
  if isinstance(ids, jax.Array) and not ids.is_fully_addressable:
    return
  ids = np.asarray(ids)
  if not np.issubdtype(ids.dtype, np.integer):
    raise ValueError(f"tokens must be integers, not {ids.dtype}")
  if not ids.size:
    return
  low, high = ids.min(), ids.max()
  if low < 0 or high >= vocab_size:
    raise ValueError(
      f"tokens must lie in 0..{vocab_size - 1}, not in {low}..{high}"
    )


class RunFolderError(ValueError):
  """A run folder cannot be used as it is; the text is one line."""


class DamagedError(RunFolderError):
  """A file of a run folder is missing, or has changed since it was written."""
