"""Arms as tasks of Ray, on this machine or on a cluster: `--launcher=ray`.

Not a binary: `experiments.common.shared_flags` calls it. An arm is one task
with its resources. It is given to another worker where its worker or node is
lost, and goes on there from its last checkpoint; an error of Python is not
tried again.

`RAY_ADDRESS` says which cluster; without it Ray starts one on this machine. All
nodes must see the run folder, the code and Python's packages under the same
paths. This process holds the run folder, computes nothing while workers do, and
at last reads what they have finished, as it would read an earlier run.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common import app, progress, ray_cluster, ray_worker
from jaxlook.attention import Variant
from jaxlook.runs.atomic_files import write_bytes
from jaxlook.runs.store import Arm, Arms, Unseen
from jaxlook.training import (
  FinishedArm,
  MeshShape,
  Problem,
  SavedArm,
  arm_name,
  begin_arm,
  run_arm,
)

_RETRIES = 3
_POLL_SECONDS = 0.5


@dataclasses.dataclass
class _Cell:
  """An arm on its way.

  Attributes:
    problem: what it is trained on.
    variant: of the problem's model.
    name: what it is called in messages.
    arm: its place in the run store.
    teacher: an arm whose context the variant reads; None unless it needs one.
    report: takes its progress.
    worker: who works on it; empty before anyone does.
    step: up to where progress was reported.
    finished: what it became.
  """

  problem: Problem
  variant: Variant
  name: str
  arm: Arm
  teacher: SavedArm | None
  report: Callable[[int, np.ndarray], None]
  worker: str = ""
  step: int = 0
  finished: FinishedArm | None = None

  def hear(self) -> None:
    """Passes on what the worker says, and that it is another one."""
    note = ray_worker.heard(self.arm)
    if note is None:
      return
    if self.worker not in ("", note.worker):
      print(f"{self.name}: its worker was lost, another goes on", flush=True)
    self.worker = note.worker
    # The last step is reported when the finished arm is read.
    if self.step < note.step < self.problem.train.steps:
      self.step = note.step
      self.report(note.step, note.losses)


def on_ray(
  store: Arms,
  todo: Sequence[tuple[Problem, Variant]],
  resources: Mapping[str, float],
  teachers: Sequence[SavedArm | None] | None = None,
  mesh: MeshShape | None = None,
  later: Sequence[tuple[Problem, Variant]] = (),
) -> list[FinishedArm]:
  """Trains arms as tasks of Ray, or reads them where they are finished.

  Args:
    store: the run store, which this process holds.
    todo: problem and variant of each arm.
    resources: what one arm needs, as of `clusters.parse_resources`.
    teachers: of each arm, one whose context it reads; None for none.
    mesh: which devices of a worker do what; its own devices by default.
    later: arms that another call trains; the time left counts them.

  Returns:
    The arms in order, as `run_arm` gives them.

  Raises:
    UsageError: Ray is not installed or there is no such cluster, or a cluster
      on this machine lacks the resources.
    SystemExit: an arm failed, or the run was asked to stop; the same command
      goes on from there, with or without Ray.
  """
  with ray_cluster.connected(resources):
    # Ray has a handler of its own for SIGTERM.
    stop = app.Stop()
    shown = progress.over_arms(todo, later)
    cells = []
    given = teachers or [None] * len(todo)
    for (problem, variant), teacher in zip(todo, given, strict=True):
      name = arm_name(problem, variant)
      arm = begin_arm(store, problem, variant, teacher)
      report = shown.arm(name, progress.step_cost(problem))
      cells.append(_Cell(problem, variant, name, arm, teacher, report))
    order = ray_worker.order(store.root, mesh)
    try:
      with contextlib.closing(shown):
        failed = _run(store, cells, order, resources, stop, shown)
    finally:
      order.stop.unlink(missing_ok=True)
  if failed:
    print(failed, file=sys.stderr)
    sys.exit(1)
  finished = [cell.finished for cell in cells if cell.finished]
  # The next call reinstalls the signal handlers.
  if len(finished) < len(cells) or (later and stop()):
    arms = len(cells) + len(later)
    print(
      f"stopped with {len(finished)} of {arms} arms finished; continue with the"
      f" same command and --out={store.root}",
      file=sys.stderr,
    )
    sys.exit(stop.status)
  return finished


def _run(
  store: Arms,
  cells: Sequence[_Cell],
  order: ray_worker.Order,
  resources: Mapping[str, float],
  stop: app.Stop,
  shown: progress.ArmProgress,
) -> str | None:
  """Waits until all tasks have ended; returns the first failure in one line."""
  import ray
  from ray.exceptions import RayError

  failed = None
  stopping = False
  waiting = _submit(store, cells, order, resources)
  while waiting:
    ended, _ = ray.wait(list(waiting), timeout=_POLL_SECONDS)
    for task in ended:
      cell = waiting.pop(task)
      try:
        wrong = ray.get(task)
      except RayError as error:
        wrong = _lost(error)
      if wrong is None and (not stopping or cell.arm.finished):
        wrong = _read(store, cell)
      failed = failed or (wrong and f"{cell.name}: {wrong}")
    for cell in waiting.values():
      cell.hear()
    at_work = [task for task, cell in waiting.items() if cell.worker]
    shown.at_a_time = max(1, len(at_work))
    if (stop() or failed) and not stopping:
      stopping = True
      # Those at work come to a checkpoint; the others are not begun.
      write_bytes(order.stop, b"")
      for task in set(waiting) - set(at_work):
        ray.cancel(task)
        del waiting[task]
  return failed


def _submit(
  store: Arms,
  cells: Sequence[_Cell],
  order: ray_worker.Order,
  resources: Mapping[str, float],
) -> dict[Any, _Cell]:
  """Tasks for the arms that are not finished; the others are read."""
  import ray

  finish = ray.remote(ray_worker.finish).options(
    max_retries=_RETRIES, **ray_cluster.options(resources)
  )
  # Sent once, however many variants it has.
  problems = {id(cell.problem): cell.problem for cell in cells}
  sent = {key: ray.put(problem) for key, problem in problems.items()}
  sent_order = ray.put(order)
  tasks = {}
  for cell in cells:
    if cell.arm.finished:
      _read(store, cell)
    else:
      task = finish.remote(
        sent_order, sent[id(cell.problem)], cell.variant, cell.teacher
      )
      tasks[task] = cell
  return tasks


def _read(store: Arms, cell: _Cell) -> str | None:
  """Reads a finished arm, once this machine sees that it is.

  Returns:
    None, or in one line that it is not to be seen.
  """
  try:
    cell.arm.await_result()
  except Unseen as error:
    return str(error)
  cell.finished = run_arm(
    store, cell.problem, cell.variant, teacher=cell.teacher, report=cell.report
  )
  return None


def _lost(error: Exception) -> str:
  """In one line, what Ray says of a task that it has given up."""
  from ray.exceptions import RayTaskError

  lines = str(error).strip().splitlines() or [""]
  if isinstance(error, RayTaskError):
    # The end of a traceback: the worker could not even begin.
    return lines[-1]
  return f"{type(error).__name__} after {_RETRIES} retries: {lines[0]}"
