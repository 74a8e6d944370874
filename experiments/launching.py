"""Arms as tasks of Ray, on this machine or on a cluster: `--launcher=ray`.

Not a binary: `experiments.ablating` calls it. An arm is one task with its
resources. It is given to another worker where its worker or node is lost, and
goes on there from its last checkpoint; an error of Python is not tried again.

`RAY_ADDRESS` says which cluster; without it Ray starts one on this machine. All
nodes must see the run folder, the code and Python's packages under the same
paths. This process holds the run folder, computes nothing while workers do, and
at last reads what they have finished, as it would read an earlier run.
"""

import contextlib
import dataclasses
import logging
import math
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import cli, working
from jaxlook.files import write_bytes
from jaxlook.runs import Arm, Arms
from jaxlook.training import (
  FinishedArm,
  MeshShape,
  Problem,
  SavedArm,
  begin_arm,
  run_arm,
)

_RETRIES = 3
_POLL_SECONDS = 0.5
# How long network file systems may go on to show what was there before.
_VISIBLE_SECONDS = 60


@dataclasses.dataclass
class _Cell:
  """An arm on its way.

  Attributes:
    problem: what it is trained on.
    variant: the attention's flag form.
    name: what it is called in messages.
    arm: its place in the run store.
    report: takes its progress.
    worker: who works on it; empty before anyone does.
    step: up to where progress was reported.
    finished: what it became.
  """

  problem: Problem
  variant: str
  name: str
  arm: Arm
  report: Callable[[int, np.ndarray], None]
  worker: str = ""
  step: int = 0
  finished: FinishedArm | None = None

  def hear(self) -> None:
    """Passes on what the worker says, and that it is another one."""
    note = working.heard(self.arm)
    if note is None:
      return
    if self.worker not in ("", note.worker):
      print(f"{self.name}: its worker was lost, another goes on", flush=True)
    self.worker = note.worker
    # The last step is reported when the finished arm is read.
    if self.step < note.step < self.problem.train.steps:
      self.step = note.step
      self.report(note.step, note.losses)


def parse_resources(text: str) -> dict[str, float]:
  """Reads what one arm needs, from its flag form.

  Args:
    text: Ray's resources with their amounts, as `cpu:2,gpu:1` or `TPU:4`.

  Returns:
    Amounts by Ray's names, `CPU` always among them.

  Raises:
    ValueError: it is no such text, or names a resource twice.
  """
  found = {}
  for part in text.split(","):
    match = re.fullmatch(r"([\w.:-]+):(\d+(?:\.\d+)?)", part.strip())
    if match is None:
      raise ValueError(f"resources must be like cpu:1,gpu:0.5, not {text!r}")
    name = match.group(1)
    name = name.upper() if name.lower() in ("cpu", "gpu") else name
    amount = float(match.group(2))
    if name in found:
      raise ValueError(f"{text!r} names {name} twice")
    if amount > 1 and amount != math.floor(amount):
      raise ValueError(f"{name}:{amount:g} must be whole, as above 1")
    found[name] = amount
  return {"CPU": 0.0} | found


def on_ray(
  store: Arms,
  todo: Sequence[tuple[Problem, str]],
  resources: Mapping[str, float],
  *,
  teacher: SavedArm | None = None,
  mesh: MeshShape | None = None,
) -> list[FinishedArm]:
  """Trains arms as tasks of Ray, or reads them where they are finished.

  Args:
    store: the run store, which this process holds.
    todo: problem and variant of each arm.
    resources: what one arm needs, as of `parse_resources`.
    teacher: an arm whose context the variants read.
    mesh: which devices of a worker do what; its own devices by default.

  Returns:
    The arms in order, as `run_arm` gives them.

  Raises:
    UsageError: Ray is not installed or there is no such cluster, or a cluster
      on this machine lacks the resources.
    SystemExit: an arm failed, or the run was asked to stop; the same command
      goes on from there, with or without Ray.
  """
  with _cluster(resources):
    # Ray has a handler of its own for SIGTERM.
    stop = cli.Stop()
    progress = cli.Progress(sum(problem.train.steps for problem, _ in todo))
    cells = []
    for problem, variant in todo:
      name = " ".join(part for part in (problem.setting, variant) if part)
      arm = begin_arm(store, problem, variant, teacher)
      cells.append(_Cell(problem, variant, name, arm, progress.arm(name)))
    order = working.order(store.root, teacher, mesh)
    try:
      with contextlib.closing(progress):
        failed = _run(store, cells, order, resources, stop, progress)
    finally:
      order.stop.unlink(missing_ok=True)
  if failed:
    print(failed, file=sys.stderr)
    sys.exit(1)
  finished = [cell.finished for cell in cells if cell.finished]
  if len(finished) < len(cells):
    print(
      f"stopped with {len(finished)} of {len(cells)} arms finished; the same"
      f" command with --out={store.root} goes on from there",
      file=sys.stderr,
    )
    sys.exit(stop.status)
  return finished


def _run(
  store: Arms,
  cells: Sequence[_Cell],
  order: working.Order,
  resources: Mapping[str, float],
  stop: cli.Stop,
  progress: cli.Progress,
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
        wrong = _read(store, cell, order.teacher)
      failed = failed or (wrong and f"{cell.name}: {wrong}")
    for cell in waiting.values():
      cell.hear()
    at_work = [task for task, cell in waiting.items() if cell.worker]
    progress.at_a_time = max(1, len(at_work))
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
  order: working.Order,
  resources: Mapping[str, float],
) -> dict[Any, _Cell]:
  """Tasks for the arms that are not finished; the others are read."""
  import ray

  environment = {
    name: value
    for name, value in os.environ.items()
    if name.startswith(("JAX_", "XLA_"))
  }
  if any(amount for name, amount in resources.items() if name != "CPU"):
    # What this machine has says nothing of nodes with accelerators.
    environment.pop("JAX_PLATFORMS", None)
  else:
    # Or all the workers of a node would take its accelerators.
    environment.setdefault("JAX_PLATFORMS", "cpu")
  finish = ray.remote(working.finish).options(
    num_cpus=resources["CPU"],
    num_gpus=resources.get("GPU", 0),
    resources={
      name: amount
      for name, amount in resources.items()
      if name not in ("CPU", "GPU")
    },
    max_retries=_RETRIES,
    runtime_env={"env_vars": environment},
  )
  # Sent once, however many variants it has.
  problems = {id(cell.problem): cell.problem for cell in cells}
  sent = {key: ray.put(problem) for key, problem in problems.items()}
  sent_order = ray.put(order)
  tasks = {}
  for cell in cells:
    if cell.arm.finished:
      _read(store, cell, order.teacher)
    else:
      task = finish.remote(sent_order, sent[id(cell.problem)], cell.variant)
      tasks[task] = cell
  return tasks


def _read(store: Arms, cell: _Cell, teacher: SavedArm | None) -> str | None:
  """Reads a finished arm, once this machine sees that it is.

  Returns:
    None, or in one line that it is not to be seen.
  """
  deadline = time.monotonic() + _VISIBLE_SECONDS
  while not cell.arm.finished:
    if time.monotonic() > deadline:
      return f"a worker finished it, but not in the {cell.arm.root} seen here"
    time.sleep(_POLL_SECONDS)
    # Asks a network file system for what is there now.
    os.listdir(cell.arm.root)
  cell.finished = run_arm(
    store, cell.problem, cell.variant, teacher=teacher, report=cell.report
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


@contextlib.contextmanager
def _cluster(resources: Mapping[str, float]) -> Iterator[None]:
  """Connects to the cluster of `RAY_ADDRESS`, or starts one here."""
  try:
    import ray
  except ImportError as error:
    raise cli.UsageError(
      "launcher", "ray is not installed: pip install jaxlook[cluster]"
    ) from error
  address = os.environ.get("RAY_ADDRESS") or "local"
  local = address == "local"
  # Who has connected already keeps what it has.
  mine = not ray.is_initialized()
  if mine:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with cli.naming("launcher"):
      _reach(address)
      try:
        ray.init(
          address,
          include_dashboard=False if local else None,
          log_to_driver=False,
          logging_level=logging.ERROR,
        )
      except RuntimeError as error:
        raise ValueError(str(error)) from error
  try:
    least = {name: amount for name, amount in resources.items() if amount}
    if not any(
      all(node["Resources"].get(name, 0) >= least[name] for name in least)
      for node in ray.nodes()
      if node["Alive"]
    ):
      asked = ",".join(f"{name}:{amount:g}" for name, amount in least.items())
      if local:
        raise cli.UsageError(
          "launcher_resources", f"this machine does not have {asked}"
        )
      print(f"no node has {asked} now: waiting for one", flush=True)
    yield
  finally:
    if mine:
      ray.shutdown()


def _reach(address: str) -> None:
  """Refuses a cluster that does not answer; Ray would try for minutes."""
  match = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
  if match:
    try:
      socket.create_connection((match[1], int(match[2])), timeout=10).close()
    except (OSError, OverflowError) as error:
      raise ValueError(
        f"no cluster at RAY_ADDRESS={address}: {error}"
      ) from error
