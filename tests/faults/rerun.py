"""A tiny run in a process of its own, and whether it ended well."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from tests.faults import child
from tests.faults.inputs import Case

SAME, SAID, BAD = "same numbers", "one line", "bad"


def start(base: pathlib.Path) -> None:
  """Imports the experiments; runs share what they compile."""
  child.import_all()
  jax.config.update("jax_compilation_cache_dir", str(base / "compiled"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def run(
  out: pathlib.Path,
  attention: str,
  first: Callable[[], object] = lambda: None,
) -> child.Ended:
  """Trains into a run folder, or goes on there."""
  arguments = ("--preset=smoke", f"--attention={attention}", "--steps=30")
  folders = out.parent.with_name(f"{out.parent.name}.cwd")
  folder = folders / str(len(list(folders.glob("*.err"))))
  case = Case("run", "precache", (*arguments, f"--out={out}"))
  return child.run(case, folder, 300, train=True, first=first)


def cells(out: pathlib.Path) -> Any:
  """The numbers of a finished run; None if there are none."""
  try:
    return json.loads((out / "result.json").read_bytes())["cells"]
  except (OSError, ValueError):
    return None


def judge(
  ended: child.Ended, out: pathlib.Path, whole: Any, *named: str
) -> tuple[str, str]:
  """Tells a good end from a bad one.

  Args:
    ended: how the run ended.
    out: its folder.
    whole: the numbers of an undisturbed run.
    *named: what a line must hold.

  Returns:
    The outcome, and what is bad.
  """
  lines = ended.errors.splitlines()
  if ended.outcome in (child.TRACEBACK, child.HUNG) or len(lines) > 1:
    return BAD, f"{ended.outcome}, {len(lines)} lines"
  if lines and not all(each in lines[0] for each in named):
    return BAD, "the line does not name it"
  if ended.status == 0:
    same = cells(out) == whole
    return (SAME, "") if same else (BAD, "other numbers")
  if ended.status in (1, 2) and lines:
    return SAID, ""
  return BAD, f"status {ended.status}"
