"""Arms as tasks of Ray, on this machine or on a cluster: `--launcher=ray`.

Not a binary: `experiments.common.train_arms` calls it. An arm is one task with
its resources. If its worker or node is lost, another worker gets the arm and
continues from its last checkpoint. An arm that raises a Python error is not
tried again.

`RAY_ADDRESS` names the cluster; without it Ray starts one on this machine. All
nodes must see the run folder, the code and Python's packages under the same
paths. This process holds the run folder and computes nothing while workers do.
At the end it reads the arms that they finished, as it would read an earlier
run.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common import app, progress, ray_cluster, ray_worker
from jaxlook.attention import Variant
from jaxlook.runs.arm import Arm, Unseen
from jaxlook.runs.atomic_files import write_bytes
from jaxlook.runs.store import Arms
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
class _ArmJob:
  """An arm that is being trained, and how far it is.

  Attributes:
    problem: what it is trained on.
    variant: of the problem's model.
    name: in messages.
    arm: its place in the run store.
    teacher: an arm whose context the variant reads; None unless it needs one.
    report: takes its progress.
    worker: the worker that trains it; empty until one has begun.
    step: the last step that was reported.
    finished: the finished arm; None until it was read.
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

  def show_progress(self) -> None:
    """Reports the worker's progress, and whether another worker took over."""
    note = ray_worker.read_progress(self.arm)
    if note is None:
      return
    if self.worker not in ("", note.worker):
      print(f"{self.name}: its worker was lost, another continues", flush=True)
    self.worker = note.worker
    # The last step is reported when the finished arm is read.
    if self.step < note.step < self.problem.train.steps:
      self.step = note.step
      self.report(note.step, note.losses)


def train_on_ray(
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
    resources: of one arm, as `ray_cluster.parse_resources` returns them.
    teachers: for each arm, one whose context it reads or None; None for none.
    mesh: what each device of a worker does; by default the worker decides.
    later: arms that another call trains; the time left counts them.

  Returns:
    The arms in order, as `run_arm` gives them.

  Raises:
    UsageError: Ray is not installed or there is no such cluster, or a cluster
      on this machine lacks the resources.
    SystemExit: an arm failed, or the run was asked to stop; the same command
      continues from there, with or without Ray.
  """
  # Ray installs a handler for SIGTERM when it starts.
  with ray_cluster.connected(resources), app.Stop() as stop:
    meter = progress.over_arms(todo, later)
    given = teachers or [None] * len(todo)
    jobs = [
      _begin_job(store, problem, variant, teacher, meter)
      for (problem, variant), teacher in zip(todo, given, strict=True)
    ]
    context = ray_worker.context(store.root, mesh)
    try:
      with contextlib.closing(meter):
        failure = _finish_all(store, jobs, context, resources, stop, meter)
    finally:
      context.stop_file.unlink(missing_ok=True)
  if failure:
    print(failure, file=sys.stderr)
    sys.exit(1)
  finished = [job.finished for job in jobs if job.finished]
  if len(finished) < len(jobs) or stop():
    arms = len(jobs) + len(later)
    print(
      f"stopped with {len(finished)} of {arms} arms finished; continue with the"
      f" same command and --out={store.root}",
      file=sys.stderr,
    )
    sys.exit(stop.status)
  return finished


def _begin_job(
  store: Arms,
  problem: Problem,
  variant: Variant,
  teacher: SavedArm | None,
  meter: progress.ArmProgress,
) -> _ArmJob:
  """Begins an arm in the run store, and its line of progress."""
  name = arm_name(problem, variant)
  return _ArmJob(
    problem=problem,
    variant=variant,
    name=name,
    arm=begin_arm(store, problem, variant, teacher),
    teacher=teacher,
    report=meter.arm(name, progress.step_cost(problem)),
  )


def _finish_all(
  store: Arms,
  jobs: Sequence[_ArmJob],
  context: ray_worker.WorkerContext,
  resources: Mapping[str, float],
  stop: app.Stop,
  meter: progress.ArmProgress,
) -> str | None:
  """Waits until all tasks have ended; returns the first failure in one line."""
  import ray
  from ray.exceptions import RayError

  failure = None
  stopping = False
  waiting = _submit(store, jobs, context, resources)
  while waiting:
    ended, _ = ray.wait(list(waiting), timeout=_POLL_SECONDS)
    for task in ended:
      job = waiting.pop(task)
      try:
        error, aside = ray.get(task)
        for line in aside:
          print(line, file=sys.stderr)
      except RayError as ray_error:
        error = _one_line(ray_error)
      if error is None and (not stopping or job.arm.finished):
        error = _read_finished(store, job)
      failure = failure or (error and f"{job.name}: {error}")
    for job in waiting.values():
      job.show_progress()
    running = [task for task, job in waiting.items() if job.worker]
    meter.at_a_time = max(1, len(running))
    if (stop() or failure) and not stopping:
      stopping = True
      # Running arms stop at a checkpoint; the others do not begin.
      write_bytes(context.stop_file, b"")
      for task in set(waiting) - set(running):
        ray.cancel(task)
        del waiting[task]
  return failure


def _submit(
  store: Arms,
  jobs: Sequence[_ArmJob],
  context: ray_worker.WorkerContext,
  resources: Mapping[str, float],
) -> dict[Any, _ArmJob]:
  """Submits arms that are not finished, and reads those that are.

  Returns:
    The arms by their task.
  """
  import ray

  train = ray.remote(ray_worker.train_arm).options(
    max_retries=_RETRIES, **ray_cluster.task_options(resources)
  )
  # Each problem is sent once, however many variants it has.
  problems = {id(job.problem): job.problem for job in jobs}
  sent = {key: ray.put(problem) for key, problem in problems.items()}
  sent_context = ray.put(context)
  tasks = {}
  for job in jobs:
    if job.arm.finished:
      _read_finished(store, job)
    else:
      task = train.remote(
        sent_context, sent[id(job.problem)], job.variant, job.teacher
      )
      tasks[task] = job
  return tasks


def _read_finished(store: Arms, job: _ArmJob) -> str | None:
  """Reads a finished arm, once this machine sees its result.

  Returns:
    None, or one line that says that the result cannot be seen.
  """
  try:
    job.arm.await_result()
  except Unseen as error:
    return str(error)
  job.finished = run_arm(
    store, job.problem, job.variant, teacher=job.teacher, report=job.report
  )
  return None


def _one_line(error: Exception) -> str:
  """Ray's error for a task that it has given up, in one line."""
  from ray.exceptions import RayTaskError

  lines = str(error).strip().splitlines() or [""]
  if isinstance(error, RayTaskError):
    # The last line of a traceback: the worker failed before it could train.
    return lines[-1]
  return f"{type(error).__name__} after {_RETRIES} retries: {lines[0]}"
