"""What a worker process does with one arm, and how it is heard of.

Not a binary: `experiments.common.ray_launcher` sends this to workers. They
parse no flags, so nothing here reads one. All that they and the process that
launched them tell each other goes through the run folder, which a lost node
leaves as it is. These are hidden files with the suffix of unfinished writes, so
that those of killed processes are removed when the folder is next opened.
"""

import contextlib
import dataclasses
import json
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from jaxlook.attention import Variant
from jaxlook.runs.atomic_files import TEMPORARY_SUFFIX, write_bytes
from jaxlook.runs.store import Arm, Arms
from jaxlook.training import (
  MeshShape,
  Problem,
  SavedArm,
  Stopped,
  begin_arm,
  run_arm,
)

# JAX's settings that change numbers and that a binary or a test may have made;
# those that come from the environment are sent as the environment.
_SETTINGS = ("jax_disable_most_optimizations", "jax_enable_x64")
_NOTE = f".note{TEMPORARY_SUFFIX}"
_SECONDS = 1.0
# Ray ends what it takes for lost within a minute or two.
_PATIENCE = 300


@dataclasses.dataclass(frozen=True)
class Order:
  """What the arms of a sweep share.

  Attributes:
    root: the run folder, absolute; all nodes see it under this path.
    folder: where relative paths start.
    stop: a file that says, once it exists, that workers are to stop.
    settings: of JAX, by name.
    mesh: which devices of a worker do what.
  """

  root: Path
  folder: Path
  stop: Path
  settings: Mapping[str, Any]
  mesh: MeshShape | None


class Note(NamedTuple):
  """What a worker says of the arm that it trains.

  Attributes:
    worker: its host and process.
    step: steps taken.
    losses: of the last steps, [E]; empty before the first ones.
  """

  worker: str
  step: int
  losses: np.ndarray


def order(root: Path, mesh: MeshShape | None) -> Order:
  """An order to work as this process would, in this folder.

  Args:
    root: the run folder.
    mesh: as of `Order`.

  Returns:
    The order; its stop file does not exist, and never did.
  """
  root = root.absolute()
  return Order(
    root=root,
    folder=Path.cwd(),
    # Network file systems may show an old file for a while.
    stop=root / f".stop-{os.getpid()}-{time.time_ns()}{TEMPORARY_SUFFIX}",
    settings={name: jax.config.values[name] for name in _SETTINGS},
    mesh=mesh,
  )


def finish(
  order: Order, problem: Problem, variant: Variant, teacher: SavedArm | None
) -> str | None:
  """Trains an arm to its end, or to a checkpoint where it is told to stop.

  Args:
    order: what to work in.
    problem: what to train on.
    variant: of the problem's model.
    teacher: an arm whose context the variant reads; None unless it needs one.

  Returns:
    None; or, where an error was raised, what it says, in one line. Its
    traceback is then in the arm's `error.txt`.
  """
  try:
    if not (order.root / "config.json").exists():
      host = socket.gethostname()
      raise ValueError(f"{host} does not see the run folder {order.root}")
    os.chdir(order.folder)
    # Orbax narrates every file that it writes.
    logging.set_verbosity(logging.ERROR)
    for name, value in order.settings.items():
      jax.config.update(name, value)
    arms = Arms(order.root)
    arm = begin_arm(arms, problem, variant, teacher)
  except Exception as error:
    return _in_one_line(error)
  path = arm.root / "error.txt"
  path.unlink(missing_ok=True)
  try:
    _train(order, arms, arm, problem, variant, teacher)
  except Exception as error:
    write_bytes(path, traceback.format_exc().encode())
    return f"{_in_one_line(error)} (the traceback is in {path})"
  return None


def _train(
  order: Order,
  arms: Arms,
  arm: Arm,
  problem: Problem,
  variant: Variant,
  teacher: SavedArm | None,
) -> None:
  """Trains the arm alone, leaving notes."""
  should_stop = order.stop.exists
  with contextlib.suppress(Stopped), _alone(arm, should_stop):
    with _noting(arm) as report:
      run_arm(
        arms,
        problem,
        variant,
        teacher=teacher,
        report=report,
        should_stop=should_stop,
        mesh=order.mesh,
      )


def _in_one_line(error: Exception) -> str:
  """The kind of an error and the first line of what it says."""
  first = str(error).strip().partition("\n")[0]
  return f"{type(error).__name__}: {first}"


def heard(arm: Arm) -> Note | None:
  """What the worker of an arm last said; None where there is none."""
  try:
    fields = json.loads((arm.root / _NOTE).read_bytes())
  except OSError:
    return None
  return Note(fields["worker"], fields["step"], np.array(fields["losses"]))


@contextlib.contextmanager
def _alone(arm: Arm, should_stop: Callable[[], bool]) -> Iterator[None]:
  """Holds the arm, once a worker that was replaced has let go of it."""
  with contextlib.ExitStack() as stack:
    for patience in reversed(range(_PATIENCE)):
      if should_stop():
        raise Stopped(0)
      try:
        stack.enter_context(arm.hold())
        break
      except ValueError:
        if not patience:
          raise
        time.sleep(1)
    yield


@contextlib.contextmanager
def _noting(arm: Arm) -> Iterator[Callable[[int, np.ndarray], None]]:
  """A reporter that leaves a note now and then, and none at the end."""
  path = arm.root / _NOTE
  last = -np.inf
  worker = f"{socket.gethostname()}:{os.getpid()}"

  def report(step: int, losses: np.ndarray) -> None:
    nonlocal last
    if time.monotonic() - last >= _SECONDS:
      last = time.monotonic()
      fields = {"worker": worker, "step": step, "losses": losses.tolist()}
      write_bytes(path, json.dumps(fields).encode())

  report(0, np.zeros(0))
  try:
    yield report
  finally:
    path.unlink(missing_ok=True)
