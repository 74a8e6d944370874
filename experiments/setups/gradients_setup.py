"""What `experiments.gradients` reads, and what it refuses.

Not a binary.
"""

import os
import tokenize
from pathlib import Path

import numpy as np

from jaxlook import git_lfs
from jaxlook.models import DecoderConfig


def check_out(out: Path) -> None:
  """Refuses a path that no file can be written to.

  Raises:
    ValueError: it is a folder, or lies in none that can be written to.
  """
  if out.exists() and not out.is_file():
    raise ValueError(f"{out} exists and is not a file")
  if not (out.parent.is_dir() and os.access(out.parent, os.W_OK)):
    raise ValueError(f"{out.parent} is not a folder that can be written to")


def read_tokens(file: Path) -> np.ndarray:
  """Reads integers [batch, length].

  Raises:
    ValueError: the file holds something else.
    OSError: the file cannot be read.
  """
  git_lfs.check_fetched(file)
  try:
    # Mapped, since a broken header may ask for any amount of memory. Objects,
    # whose pickle could run code, cannot be mapped.
    tokens = np.lib.format.open_memmap(file, mode="r")
  except (ValueError, SyntaxError, tokenize.TokenError) as error:
    raise ValueError(
      f"{file} is not a .npy file of numbers: {error}"
    ) from error
  found = f"{tokens.dtype} {list(tokens.shape)}"
  if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer):
    raise ValueError(
      f"{file} must be an integer array [batch, length], not {found}"
    )
  return np.array(tokens)


def check_teacher(teacher: DecoderConfig, config: DecoderConfig) -> None:
  """Refuses a teacher of another shape than the model's.

  Raises:
    ValueError: the shapes differ.
  """
  for field in ("layers", "heads", "width", "vocab_size"):
    theirs, ours = getattr(teacher, field), getattr(config, field)
    if theirs != ours:
      raise ValueError(f"the teacher has {field}={theirs}, the model {ours}")
