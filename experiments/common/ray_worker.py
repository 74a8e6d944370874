"""What a worker process of Ray does with one arm, and how it reports progress.

Not a binary: `experiments.common.ray_launcher` sends this to workers. Workers
parse no flags, so nothing here reads one. Workers and the process that launched
them exchange everything through the run folder, which survives the loss of a
node. Their messages are hidden files with the suffix of unfinished writes, so
those of killed processes are removed when the folder is next opened.
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

from experiments.common import faults
from jaxlook.attention import Variant
from jaxlook.runs.arm import Arm
from jaxlook.runs.atomic_files import TEMPORARY_SUFFIX, write_bytes
from jaxlook.runs.store import Arms
from jaxlook.training import (
  MeshShape,
  Problem,
  SavedArm,
  Stopped,
  begin_arm,
  run_arm,
)

# JAX's settings that change numbers and that a binary or a test may change.
# Settings from environment variables are sent with the environment.
_JAX_SETTINGS = ("jax_disable_most_optimizations", "jax_enable_x64")
_PROGRESS_FILE = f".note{TEMPORARY_SUFFIX}"
_PROGRESS_SECONDS = 1.0
# Ray ends a worker that it believes lost within a minute or two.
_HOLD_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class WorkerContext:
  """What all workers of a run need to work as the launching process would.

  Attributes:
    root: the run folder, absolute; all nodes see it under this path.
    working_folder: where relative paths start.
    stop_file: once this file exists, workers stop at a checkpoint.
    jax_settings: values of JAX's settings, by name.
    mesh: what each device of a worker does; None lets the worker decide.
  """

  root: Path
  working_folder: Path
  stop_file: Path
  jax_settings: Mapping[str, Any]
  mesh: MeshShape | None


class WorkedArm(NamedTuple):
  """What a worker says of an arm at the end.

  Attributes:
    error: the error that was raised, in one line; None if there was none.
    warnings: one line for each damaged checkpoint that was set aside.
  """

  error: str | None
  warnings: tuple[str, ...] = ()


class ProgressNote(NamedTuple):
  """The progress of an arm, as its worker reports it.

  Attributes:
    worker: its host and process.
    step: steps taken.
    losses: of the last steps, [E]; empty before the first ones.
  """

  worker: str
  step: int
  losses: np.ndarray


def context(root: Path, mesh: MeshShape | None) -> WorkerContext:
  """The context of workers that should work as this process would.

  Args:
    root: the run folder.
    mesh: as in `WorkerContext`.

  Returns:
    The context; its stop file does not exist.
  """
  root = root.absolute()
  return WorkerContext(
    root=root,
    working_folder=Path.cwd(),
    # A new name each time: network file systems may show a removed file for a
    # while.
    stop_file=root / f".stop-{os.getpid()}-{time.time_ns()}{TEMPORARY_SUFFIX}",
    jax_settings={name: jax.config.values[name] for name in _JAX_SETTINGS},
    mesh=mesh,
  )


def train_arm(
  context: WorkerContext,
  problem: Problem,
  variant: Variant,
  teacher: SavedArm | None,
) -> WorkedArm:
  """Trains an arm to its end, or to a checkpoint where it is told to stop.

  Args:
    context: what all workers share.
    problem: what to train on.
    variant: of the problem's model.
    teacher: an arm whose context the variant reads; None unless it needs one.

  Returns:
    What went wrong, if anything. Faults of the machine and of the run folder
    are one line; other errors leave a traceback in the arm's `error.txt`.
  """
  try:
    if not (context.root / "config.json").exists():
      host = socket.gethostname()
      raise ValueError(f"{host} does not see the run folder {context.root}")
    os.chdir(context.working_folder)
    faults.silence_libraries()
    for name, value in context.jax_settings.items():
      jax.config.update(name, value)
    arms = Arms(context.root)
    arm = begin_arm(arms, problem, variant, teacher)
    error_file = arm.root / "error.txt"
    error_file.unlink(missing_ok=True)
  except Exception as error:
    return WorkedArm(_one_line(error))
  warnings = []
  should_stop = context.stop_file.exists
  try:
    with (
      contextlib.suppress(Stopped),
      _hold_when_free(arm, should_stop),
      _reporting(arm) as report,
    ):
      run_arm(
        arms,
        problem,
        variant,
        teacher=teacher,
        warn=warnings.append,
        report=report,
        should_stop=should_stop,
        mesh=context.mesh,
      )
  except Exception as error:
    said = _one_line(error)
    if faults.line(error) is None:
      write_bytes(error_file, traceback.format_exc().encode())
      said += f" (the traceback is in {error_file})"
    return WorkedArm(said, tuple(warnings))
  return WorkedArm(None, tuple(warnings))


def _one_line(error: Exception) -> str:
  """The line of a fault; or an error's kind and the start of its message."""
  if said := faults.line(error):
    return said
  first = str(error).strip().partition("\n")[0]
  return f"{type(error).__name__}: {first}"


def read_progress(arm: Arm) -> ProgressNote | None:
  """The last progress that the worker of an arm reported, or None."""
  try:
    fields = json.loads((arm.root / _PROGRESS_FILE).read_bytes())
  except OSError:
    return None
  return ProgressNote(
    fields["worker"], fields["step"], np.array(fields["losses"])
  )


@contextlib.contextmanager
def _hold_when_free(
  arm: Arm, should_stop: Callable[[], bool]
) -> Iterator[None]:
  """Holds the arm, once a worker that was replaced has released it."""
  with contextlib.ExitStack() as stack:
    for tries_left in reversed(range(_HOLD_SECONDS)):
      if should_stop():
        raise Stopped(0)
      try:
        stack.enter_context(arm.hold())
        break
      except ValueError:
        if not tries_left:
          raise
        time.sleep(1)
    yield


@contextlib.contextmanager
def _reporting(arm: Arm) -> Iterator[Callable[[int, np.ndarray], None]]:
  """A reporter that writes the progress file; it is removed at the end."""
  path = arm.root / _PROGRESS_FILE
  last = -np.inf
  worker = f"{socket.gethostname()}:{os.getpid()}"

  def report(step: int, losses: np.ndarray) -> None:
    nonlocal last
    if time.monotonic() - last >= _PROGRESS_SECONDS:
      last = time.monotonic()
      fields = {"worker": worker, "step": step, "losses": losses.tolist()}
      write_bytes(path, json.dumps(fields).encode())

  report(0, np.zeros(0))
  try:
    yield report
  finally:
    path.unlink(missing_ok=True)
