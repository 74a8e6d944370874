"""Pretrained weights to start training from.

All seeds of an arm then start from the same weights and differ only in the
order of their data, so intervals over seeds do not include the spread of inits.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import Any

from jaxlook.models import huggingface


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
  """Weights from which all seeds start.

  Attributes:
    params: the parameters of a decoder, without a seed axis.
    about: plain data that identifies them, for the arm's config.
  """

  params: Any
  about: Mapping[str, Any]


def start_from(
  folder: str | os.PathLike[str],
) -> tuple[huggingface.Pretrained, Start]:
  """Reads a pretrained folder to start from.

  Args:
    folder: see `jaxlook.models.huggingface.load`. `about` depends on the
      content of its files, not on its path.

  Returns:
    The decoder, and its weights as a start.

  Raises:
    ValueError: see `jaxlook.models.huggingface.load`.
    OSError: a file cannot be read.
  """
  loaded = huggingface.load(folder)
  digest = hashlib.sha256()
  for file in huggingface.files(folder):
    digest.update(file.name.encode())
    with open(file, "rb") as content:
      digest.update(hashlib.file_digest(content, "sha256").digest())
  about = {"family": loaded.family, "sha256": digest.hexdigest()}
  return loaded, Start(loaded.params, about)
