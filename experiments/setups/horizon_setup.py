"""The horizon sweep as the binaries set it up: its flag, its arms by preset.

Not a binary: `experiments.horizon` and `experiments.deferred` train it.
"""

import dataclasses
import math

from experiments.common import app, shared_flags, study_setup
from experiments.common.study import Study
from jaxlook.lookahead.horizon import HorizonSweep
from jaxlook.tasks.precache import Precache
from jaxlook.training import TrainConfig

SWEEPS = {
  "smoke": HorizonSweep(horizons=(0, 2), leaks=(0.5,), offsets=(1,)),
  "cpu": HorizonSweep(
    # The sources lie 3 and 4 back: every horizon and distance up to them.
    horizons=(0, 1, 2, 3, 4),
    leaks=(0.1, 0.5),
    offsets=(1, 3, 4, 5),
    part_horizons=(0,),
  ),
  "paper": HorizonSweep(
    horizons=(0, 1, 2, 4, 8, 10, 16, 32),
    leaks=(0.01, 0.03, 0.1, 0.25, 0.5, 0.75),
    offsets=(1, 2, 4, 8, 10, 12, 16),
    part_horizons=(0, 1, 4, 16),
  ),
}
# On text no distance is special: powers of two.
_CPU_TEXT_SWEEP = HorizonSweep(
  horizons=(0, 1, 2, 4, 8, 16),
  leaks=(0.1, 0.5),
  offsets=(1, 2, 4),
  part_horizons=(0,),
)
PRECACHE = study_setup.PRECACHE | {
  # Sources 3 and 4 back: out of reach for h = 1 in two layers. Learned
  # positions would need gradient from other distances, too, to be told apart.
  "cpu": dataclasses.replace(
    study_setup.PRECACHE["cpu"],
    first=3,
    width=32,
    positions="rotary",
    train=TrainConfig(
      steps=600, batch_size=64, learning_rate=3e-3, eval_batches=32
    ),
  ),
  "paper": dataclasses.replace(
    study_setup.PRECACHE["paper"], first=7, positions="rotary"
  ),
}
TEXT = study_setup.TEXT | {
  # Dozens of arms: smaller models, fewer steps.
  "cpu": dataclasses.replace(
    study_setup.TEXT["cpu"],
    length=32,
    width=32,
    train=dataclasses.replace(study_setup.TEXT["cpu"].train, steps=400),
  )
}


def preset_sweep() -> HorizonSweep:
  """The sweep of preset and task."""
  preset = shared_flags.PRESET.value
  if shared_flags.TASK.value == "text" and preset == "cpu":
    return _CPU_TEXT_SWEEP
  return SWEEPS[preset]


def build_sweep(sweep: HorizonSweep, length: int) -> HorizonSweep:
  """A sweep with the horizons of `--horizons`, within the sequence.

  Args:
    sweep: of the preset.
    length: positions a sequence, N.

  Returns:
    The sweep without what a sequence of N positions cannot have.

  Raises:
    UsageError: `--horizons` cannot be used.
  """
  if shared_flags.HORIZONS.value is not None:
    horizons = tuple(app.numbers("horizons", shared_flags.HORIZONS.value, int))
    sweep = dataclasses.replace(sweep, horizons=horizons)
    if horizons[-1] >= length - 1:
      raise app.UsageError(
        "horizons",
        f"must be below N - 1 = {length - 1}, which is causal, not"
        f" {horizons[-1]}",
      )
  return sweep.within(length)


def reach(study: Study) -> tuple[int, int] | None:
  """Bounds of the horizon that is needed, if the task gives them.

  Every layer passes gradient h positions back. So the nearest source is out of
  reach below its lag over the number of layers, and one layer reaches the
  farthest source from its lag on.

  Args:
    study: what is trained.

  Returns:
    The bounds on the pre-caching task; None on text.
  """
  task = study.problem.task
  if not isinstance(task, Precache):
    return None
  return math.ceil(task.first / study.problem.model.layers), task.terms
