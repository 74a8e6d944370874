"""Where a run is kept, and what an earlier run has left there.

Not a binary. A run grows: seeds, variants and settings that a command asks for
are added to those that its run folder holds.
"""

from pathlib import Path

from experiments.common import app
from experiments.common.presets import NEW_RUN, Held
from experiments.common.shared_flags import OUT, PRESET
from jaxlook.runs import folder

GROWS = (
  *("seeds", "variants", "p", "settings", "elsewhere", "points"),
  *("dial", "horizons", "train"),
)
"""The settings of a run's config that may grow."""


def path(name: str) -> Path:
  """The run folder of an experiment, as `--out` and the preset say.

  Args:
    name: the experiment's.

  Raises:
    UsageError: no file system takes the name.
  """
  out = Path(OUT.value or f"runs/{name}-{PRESET.value}")
  try:
    str(out).encode()
  except UnicodeEncodeError as error:
    raise app.UsageError(
      "out",
      "must be a name in UTF-8; if it is one, set PYTHONUTF8=1",
    ) from error
  return out


def held(name: str) -> Held:
  """The config of the experiment's run that the folder holds.

  Args:
    name: the experiment's.

  Returns:
    Plain data; `NEW_RUN` if the folder holds no run of this experiment, or one
    that studies the models of another folder (`--model`). Opening the folder
    refuses what does not fit.

  Raises:
    UsageError: see `path`.
  """
  try:
    config = folder.read_object(path(name) / folder.CONFIG)
  except (OSError, ValueError):
    return NEW_RUN
  grows = config.get("experiment") == name and not config.get("model")
  return config if grows else NEW_RUN
