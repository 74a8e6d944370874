"""Arms trained in this process, one after the other.

Not a binary: `experiments.common.train_arms` calls it. Another run may train
other arms of the same folder meanwhile: what it holds comes later.
"""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from experiments.common import app, memory_check, multiprocess, progress
from jaxlook.attention import Variant
from jaxlook.numerals import counted
from jaxlook.runs.arm import Unseen
from jaxlook.runs.folder import InUse
from jaxlook.runs.store import Grown, Store
from jaxlook.training import (
  FinishedArm,
  MeshShape,
  Problem,
  SavedArm,
  Stopped,
  arm_name,
  begin_arm,
  find_arm,
  multihost,
  run_arm,
)

_POLL_SECONDS = 1.0


def train_in_turn(
  store: Store,
  todo: Sequence[tuple[Problem, Variant]],
  teachers: Sequence[SavedArm | None],
  mesh: MeshShape | None = None,
  later: Sequence[tuple[Problem, Variant]] = (),
) -> list[FinishedArm]:
  """Trains arms, or reads finished ones, in this process and its fellows.

  Args:
    store: the run store.
    todo: problem and variant of each arm.
    teachers: for each arm, one whose context it reads; None for none.
    mesh: how the devices are used; None to choose.
    later: arms that another call trains; the time left counts them.

  Returns:
    The arms in order.

  Raises:
    SettingError: the mesh does not fit.
    UsageError: another run has begun some of the seeds since this one has
      looked, or the machine cannot hold what is not finished.
    SystemExit: the run was asked to stop; the same command continues it.
  """
  if mesh is not None:
    for problem, _ in todo:
      mesh.check(len(problem.seeds), problem.train)
  _claim(store, todo, teachers)
  shown = progress.over_arms(todo, later)
  with app.Stop() as stop, contextlib.closing(shown):
    train = functools.partial(_train_one, store, mesh, shown, stop)
    trained = _as_they_are_free(todo, teachers, train)
    if multihost.max_over_processes(stop()):
      _halt(store, shown, stop, f"stopped after {counted(len(trained), 'arm')}")
  if not later:
    multiprocess.end_others()
  return trained


def _claim(
  store: Store,
  todo: Sequence[tuple[Problem, Variant]],
  teachers: Sequence[SavedArm | None],
) -> None:
  """Begins all arms, so that another run does not begin their seeds.

  Raises:
    UsageError: another run has begun some of the seeds since this one has
      looked, or the machine cannot hold what is not finished.
  """
  begun = zip(todo, teachers, strict=True)
  with app.blaming("out"):
    for problem, variant in todo:
      if not find_arm(store, problem, variant).finished:
        memory_check.check_training(
          problem.model, problem.train, len(problem.seeds)
        )
    try:
      with store.alone():
        for (problem, variant), teacher in begun:
          begin_arm(store, problem, variant, teacher)
    except Grown as error:
      raise ValueError(f"{error}; give the same command again") from error


def _as_they_are_free(
  todo: Sequence[tuple[Problem, Variant]],
  teachers: Sequence[SavedArm | None],
  train: Callable[[Problem, Variant, SavedArm | None], FinishedArm],
) -> list[FinishedArm]:
  """Trains the arms in order; those that another run holds come later."""
  waiting = dict(enumerate(zip(todo, teachers, strict=True)))
  found: dict[int, FinishedArm] = {}
  told: set[int] = set()
  while waiting:
    for place, (arm, teacher) in list(waiting.items()):
      try:
        found[place] = train(*arm, teacher)
      except InUse as error:
        if multihost.joined():
          raise
        if place not in told:
          _warn(f"{arm_name(*arm)}: waiting, since {error}")
        told.add(place)
        continue
      del waiting[place]
    if waiting:
      time.sleep(_POLL_SECONDS)
  return [found[place] for place in range(len(todo))]


def _train_one(
  store: Store,
  mesh: MeshShape | None,
  shown: progress.ArmProgress,
  stop: app.Stop,
  problem: Problem,
  variant: Variant,
  teacher: SavedArm | None,
) -> FinishedArm:
  """Trains an arm, or reads it; ends the process if it is asked to stop."""
  name = arm_name(problem, variant)
  reporter = shown.arm(name, progress.step_cost(problem))
  try:
    if multihost.max_over_processes(stop()):
      raise Stopped(0)
    return run_arm(
      store,
      problem,
      variant,
      teacher=teacher,
      warn=_warn,
      report=reporter,
      should_stop=stop,
      mesh=mesh,
    )
  except Unseen as error:
    raise app.UsageError("out", str(error)) from error
  except Stopped as stopped:
    _halt(store, shown, stop, f"{name} {stopped}")


def _warn(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def _halt(
  store: Store, shown: progress.ArmProgress, stop: app.Stop, where: str
) -> NoReturn:
  """Says how to continue, and ends the process."""
  shown.close()
  if multihost.is_leader():
    print(
      f"{where}; continue with the same command and --out={store.root}",
      file=sys.stderr,
    )
  sys.exit(multihost.max_over_processes(stop.status))
