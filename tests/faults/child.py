"""Runs binaries in forked processes, up to the point where training begins.

A fork costs a tenth of a second, a new interpreter several seconds. The parent
imports everything but the binaries and never uses a device, so the children
start as new processes do.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import pkgutil
import resource
import runpy
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

from absl import flags

import experiments
from experiments.common import app, train_arms
from tests.faults import inputs
from tests.faults.inputs import Case

REFUSED, ACCEPTED, DONE = "refused", "accepted", "done"
TRACEBACK, HUNG, OTHER = "traceback", "hung", "other"
OUTCOMES = (REFUSED, ACCEPTED, DONE, TRACEBACK, HUNG, OTHER)

_REACHED_TRAINING = 77
_ROOT = pathlib.Path(experiments.__path__[0])


@dataclasses.dataclass(frozen=True)
class Ended:
  """How a case ended.

  Attributes:
    outcome: one of `OUTCOMES`.
    status: the exit status; minus the signal that ended the process.
    errors: what was written to stderr.
  """

  outcome: str
  status: int
  errors: str


def binaries() -> list[str]:
  """All binaries, without the package's name."""
  found = []
  for folder in ("", "benchmarks"):
    for file in sorted((_ROOT / folder).glob("*.py")):
      if "app.run(" in file.read_text() and "def main()" in file.read_text():
        found.append(".".join([*filter(None, [folder]), file.stem]))
  return found


def import_all() -> None:
  """Imports all modules of the experiments but the binaries."""
  # JAX warns of forks, since it usually has threads by then.
  warnings.filterwarnings("ignore", r"os\.fork\(\)", RuntimeWarning)
  skipped = {f"experiments.{name}" for name in binaries()}
  prefix = f"{experiments.__name__}."
  for module in pkgutil.walk_packages(experiments.__path__, prefix):
    if module.name not in skipped and ".results" not in module.name:
      importlib.import_module(module.name)


def flags_of(binary: str) -> dict[str, str]:
  """The types of the flags that a binary reads, by name."""

  def tell(main: Callable[[], None], *_: Any, **__: Any) -> None:
    found = {
      name: flags.FLAGS[name].flag_type()
      for name in app.read_by(main.__module__)
    }
    print(json.dumps(found), flush=True)

  read, write = os.pipe()
  if not (child := os.fork()):
    os.dup2(write, 1)
    sys.stdout = open(1, "w", closefd=False)
    sys.argv = [binary]
    with mock.patch.object(app, "run", tell):
      runpy.run_module(f"experiments.{binary}", run_name="__main__")
    os._exit(0)
  os.close(write)
  with open(read) as told:
    text = told.read()
  os.waitpid(child, 0)
  return json.loads(text)


def prepare(base: pathlib.Path) -> None:
  """Writes what cases name: a model, a text, its tokens and runs to study."""
  in_fork(lambda: inputs.write_files(base))
  for name, binary in inputs.RUNS.items():
    arguments = ["--preset=smoke", "--steps=2", f"--out={base / name}"]
    if binary == "language":
      arguments += [f"--corpus={base / 'text'}", f"--cache={base / 'cache'}"]
    case = Case("prepare", binary, tuple(arguments))
    ended = run(case, base / f"{name}.cwd", seconds=300, train=True)
    if ended.outcome != DONE:
      raise RuntimeError(f"{binary} did not run: {ended.errors}")


def in_fork(function: Callable[[], object]) -> None:
  """Calls a function in a process of its own, which may use devices."""
  if not (child := os.fork()):
    status = 1
    try:
      function()
      status = 0
    finally:
      os._exit(status)
  if os.waitpid(child, 0)[1]:
    raise RuntimeError("failed in a process of its own")


def run(
  case: Case,
  folder: pathlib.Path,
  seconds: float,
  *,
  train: bool = False,
  first: Callable[[], object] = lambda: None,
) -> Ended:
  """Runs a case in a process of its own.

  Args:
    case: the case.
    folder: its working directory, which is made.
    seconds: how long it may take before it counts as hung.
    train: whether an accepted case goes on into training.
    first: called in the new process before the binary runs.

  Returns:
    How it ended.
  """
  folder.mkdir(parents=True)
  for name, content in case.files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
  output = folder.parent / f"{folder.name}.err"
  child = os.fork()
  if not child:
    _become(case, folder, output, train, first)
  status = _wait(child, seconds)
  if not output.stat().st_size:
    # With --distributed another process writes the errors.
    time.sleep(0.5)
  errors = output.read_bytes().decode(errors="replace")
  return Ended(
    _outcome(status, errors), -1 if status is None else status, errors
  )


def _become(
  case: Case,
  folder: pathlib.Path,
  output: pathlib.Path,
  train: bool,
  first: Callable[[], object],
) -> None:
  """Turns this process into the binary; never returns."""
  status = 1
  try:
    os.setpgid(0, 0)
    os.chdir(folder)
    with open(output, "wb") as file:
      os.dup2(file.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout = open(1, "w", closefd=False)
    sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)
    # An absurd allocation fails here as it does on a smaller machine.
    limit = 40 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = [case.binary, *case.arguments]
    if not train:
      train_arms.open_store = _reached
    first()
    runpy.run_module(
      f"experiments.{case.binary}", run_name="__main__", alter_sys=True
    )
    status = 0
  except SystemExit as error:
    status = error.code if isinstance(error.code, int) else 1
    status = 0 if error.code is None else status
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stderr.flush()
    os._exit(status)


def _reached(*_: Any) -> None:
  os._exit(_REACHED_TRAINING)


def _wait(child: int, seconds: float) -> int | None:
  """The exit status, or minus a signal; None if the time is over."""
  end = time.monotonic() + seconds
  while time.monotonic() < end:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
      return os.waitstatus_to_exitcode(status)
    time.sleep(0.02)
  os.killpg(child, signal.SIGKILL)
  os.waitpid(child, 0)
  return None


def _outcome(status: int | None, errors: str) -> str:
  if status is None:
    return HUNG
  if status < 0 or "Traceback (most recent call last)" in errors:
    return TRACEBACK
  if status == _REACHED_TRAINING:
    return ACCEPTED
  if status == 0:
    return DONE
  one_line = len(errors.splitlines()) == 1 and errors.endswith("\n")
  return REFUSED if status == app.BAD_INPUT and one_line else OTHER
