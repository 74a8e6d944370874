"""Refuses training whose checkpoints do not fit on the disk.

Not a binary. The size of checkpoints is known before training, so a full disk
is reported then and not after hours. Reports and curves are small beside them.
"""

import errno
import math
import os
import shutil
from collections.abc import Sequence

from experiments.common import app
from jaxlook.attention import Variant
from jaxlook.runs.arm import Arm
from jaxlook.runs.store import Store
from jaxlook.training import (
  Problem,
  checkpoint_bytes,
  find_arm,
  in_parts,
  multihost,
  optimizers,
)

_GIB = 2**30
# What is left of weights that are compressed.
_COMPRESSED = 0.9


def check(store: Store, todo: Sequence[tuple[Problem, Variant]]) -> None:
  """Refuses arms whose checkpoints do not fit.

  Args:
    store: the run store.
    todo: problem and variant of each arm that this run trains, now or later.

  Raises:
    UsageError: the disk has too little space.
  """
  with app.blaming("out"):
    multihost.leader_first(lambda: _check(store, todo), lambda: None)


def _check(store: Store, todo: Sequence[tuple[Problem, Variant]]) -> None:
  """Raises ValueError if checkpoints do not fit."""
  arms = [
    (part, find_arm(store, part, variant))
    for problem, variant in todo
    for part in in_parts(store, problem, variant)
  ]
  needs = [_need(problem, arm) for problem, arm in arms if not arm.finished]
  disk = shutil.disk_usage(store.root)
  # Some network file systems do not tell their size.
  if not needs or not disk.total:
    return
  # One arm at a time has more checkpoints than it keeps.
  need = sum(kept for kept, _ in needs) + max(more for _, more in needs)
  if need > disk.free:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise ValueError(
      f"{store.root}: {full.strerror}: the checkpoints of this run take about"
      f" {_shown(need)}, and {_shown(disk.free)} are free"
    ) from full


def _need(problem: Problem, arm: Arm) -> tuple[float, float]:
  """Bytes that an arm still needs at its end, and more while it is trained."""
  train = problem.train
  size = _COMPRESSED * checkpoint_bytes(
    problem.model, train, len(problem.seeds)
  )
  before_decay = optimizers.steps_before_decay(train)
  kept = len({*train.keep_steps, before_decay or train.steps, train.steps})
  # The newest two, and one that is being written.
  more = min(2, math.ceil(train.steps / train.checkpoint_every) - 1)
  names = [path.name for path in arm.checkpoints.glob("*")]
  there = sum(name.isdecimal() for name in names)
  return size * (kept - there), size * more


def _shown(count: float) -> str:
  return f"{count / _GIB:.3g} GiB"
