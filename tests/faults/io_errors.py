"""Lets one system call of a tiny run fail, and counts how the runs end.

    python -m tests.faults.io_errors [--count=40] [--seed=0]

Needs a C compiler. A good end is one line with path and reason and exit status
1 or 2, or the right numbers where the call does not matter. The same command
without the fault must then give the numbers of an undisturbed run.
"""

import argparse
import collections
import errno
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

from tests.faults import rerun

_SOURCE = pathlib.Path(__file__).with_name("failing_call.c")
_NUMBERS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES)
_LOADED = "FAULT_LOADED"


def main() -> int:
  """Runs the cases; returns 1 if one of them ended badly."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--count", type=int, default=40)
  parser.add_argument("--seed", type=int, default=0)
  asked = parser.parse_args()
  if _LOADED not in os.environ:
    return _with_library()
  with tempfile.TemporaryDirectory() as name:
    base = pathlib.Path(name).resolve()
    rerun.start(base)
    rerun.run(base / "whole" / "run", "causal")
    whole = rerun.cells(base / "whole" / "run")
    _, log = _attempt(base / "counted", at=0, number=0)
    known = len(log)
    print(f"{known} calls are known", flush=True)
    draw, counts = random.Random(asked.seed), collections.Counter()
    for case in range(asked.count):
      at, number = draw.randint(1, known), draw.choice(_NUMBERS)
      folder = base / str(case)
      ended, log = _attempt(folder, at, number)
      out = folder / "run"
      outcome, why = rerun.judge(ended, out, whole, str(out))
      if outcome != rerun.BAD:
        again = rerun.run(out, "causal")
        if again.status or rerun.cells(out) != whole:
          outcome, why = rerun.BAD, f"afterwards: {again.errors[-200:]}"
      counts[outcome] += 1
      if outcome == rerun.BAD:
        failed = [line for line in log if line.startswith("FAILS ")]
        print(f"call {at}, {errno.errorcode[number]}, {failed}: {why}")
        print(f"  {ascii(ended.errors[-300:])}", flush=True)
      shutil.rmtree(folder)
  print(dict(counts))
  return 1 if counts[rerun.BAD] else 0


def _with_library() -> int:
  """Runs this script again, with calls that can fail."""
  with tempfile.TemporaryDirectory() as name:
    library = f"{name}/failing_call.so"
    build = ["cc", "-O1", "-shared", "-fPIC", "-o", library, str(_SOURCE)]
    subprocess.run(build, check=True)
    command = [sys.executable, "-m", "tests.faults.io_errors", *sys.argv[1:]]
    changed = os.environ | {_LOADED: "1", "LD_PRELOAD": library}
    return subprocess.run(command, env=changed).returncode


def _attempt(folder: pathlib.Path, at: int, number: int):
  """Runs with a call that fails; returns the end and the calls."""
  out, log = folder / "run", folder.with_suffix(".log")

  def arm() -> None:
    os.environ.update(
      FAULT_FOLDER=str(out),
      FAULT_AT=str(at),
      FAULT_NUMBER=str(number),
      FAULT_LOG=str(log),
    )

  folder.mkdir()
  ended = rerun.run(out, "causal", arm)
  return ended, log.read_text().splitlines() if log.exists() else []


if __name__ == "__main__":
  sys.exit(main())
