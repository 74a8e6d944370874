"""Where training starts, if not at fresh parameters.

All seeds of an arm then start from the same weights and differ in the order of
their data alone, so that an interval over seeds has no spread of inits in it.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import Any

from jaxlook.models import huggingface


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
  """Weights to start from.

  Attributes:
    params: the parameters of a decoder, without a seed axis.
    about: plain data that identifies them, for the arm's config.
  """

  params: Any
  about: Mapping[str, Any]


def start_from(
  folder: str | os.PathLike[str],
) -> tuple[huggingface.Pretrained, Start]:
  """Reads a pretrained folder to go on from.

  Args:
    folder: as of `pretrained.load`. Where it lies is no part of `about`; what
      its files hold is.

  Returns:
    The decoder, and the start that it gives.

  Raises:
    ValueError: as `pretrained.load`.
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
