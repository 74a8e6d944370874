"""Refuses what no memory could hold, before anything is allocated.

Not a binary. The library says how much a training takes at least; here the flag
is named that asks for so much.
"""

import os
from collections.abc import Mapping

from absl import flags

from experiments.common import app
from experiments.common.shared_flags import LAUNCHER
from jaxlook import machine
from jaxlook.errors import SettingError
from jaxlook.models import DecoderConfig
from jaxlook.training import TrainConfig, check_memory

# The flags from which a setting may come.
_FLAGS: Mapping[str, tuple[str, ...]] = {
  "seeds": ("repetitions", "seeds", "seed_counts"),
  "layers": ("layers", "model_size", "from"),
  "width": ("width", "model_size", "from"),
  "max_length": ("length", "pad", "digits", "pairs"),
  "vocab_size": ("tokenizer", "from"),
  "batch_size": ("batch_size",),
  "steps": ("steps", "data_steps"),
}


# A run of a larger machine may be read here, and reported again.
_LARGER_MACHINE = 64


def check_sizes(model: DecoderConfig, train: TrainConfig, seeds: int) -> None:
  """Refuses what no machine holds, before lists of that length are made.

  Args:
    model: as `check_training` has it.
    train: as `check_training` has it.
    seeds: as `check_training` has it.

  Raises:
    UsageError: as `check_training`.
  """
  check_training(model, train, seeds, room=_LARGER_MACHINE)


def check_training(
  model: DecoderConfig, train: TrainConfig, seeds: int, room: int = 1
) -> None:
  """Refuses training that this machine could never hold.

  Args:
    model: the decoder's shape.
    train: how it is trained.
    seeds: number of models.
    room: as in `jaxlook.training.check_memory`.

  Raises:
    UsageError: of the flag that asks for most, or else of `--preset`.
  """
  given = {
    field: name
    for field, names in _FLAGS.items()
    for name in reversed(names)
    if name in flags.FLAGS and flags.FLAGS[name].value is not None
  }
  # A cluster, unless Ray starts one on this machine.
  elsewhere = LAUNCHER.value is not None and bool(os.environ.get("RAY_ADDRESS"))
  try:
    check_memory(
      model, train, seeds, given or _FLAGS, elsewhere=elsewhere, room=room
    )
  except SettingError as error:
    flag = given.get(error.field, "preset")
    raise app.UsageError(flag, error.message) from error


def check_sequences(flag: str, count: int, model: DecoderConfig) -> None:
  """Refuses more sequences than this machine could hold for a measure.

  Args:
    flag: what their number is from.
    count: how many are measured at once.
    model: what reads them, a residual stream for each.

  Raises:
    UsageError: they are too many.
  """
  needed = 4 * count * model.max_length * model.width
  with app.mapping(sequences=flag):
    machine.check_fits("sequences", needed, f"measuring {count} sequences")
