"""Reads JSON that others may have written."""

import json
from pathlib import Path
from typing import Any

from jaxlook.runs import io_faults


def read_json(file: Path) -> Any:
  """Reads a JSON file.

  Args:
    file: the file.

  Returns:
    Its content.

  Raises:
    ValueError: it does not hold JSON, or JSON that is nested too deeply.
    OSError: it cannot be read.
  """
  try:
    return json.loads(io_faults.read_bytes(file))
  except RecursionError as error:
    raise ValueError("is nested too deeply") from error
