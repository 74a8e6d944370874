"""Tries malformed input on all binaries, and counts how they end.

    python -m tests.faults.abuse [--count=N] [--seed=S] [--seconds=T] [--train]
        [--kind=REGEX]

Draws N cases from the list in `tests/faults/inputs.py`, the same for the same
seed; `--count=0` takes all. A good end is a refusal in one line with exit
status 2, or training that begins. Anything else is listed: tracebacks,
refusals of several lines, and what does not end in time. `--train` lets
accepted cases train; then `done` counts those that end well.
"""

import argparse
import collections
import pathlib
import random
import re
import sys
import tempfile

from tests.faults import child, inputs


def main() -> int:
  """Runs the cases; returns 1 if one of them ended badly."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--count", type=int, default=600)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--seconds", type=float, default=60.0)
  parser.add_argument("--kind", default="")
  parser.add_argument("--train", action="store_true")
  asked = parser.parse_args()
  child.import_all()
  counts, bad = collections.Counter(), 0
  with tempfile.TemporaryDirectory() as name:
    base = pathlib.Path(name)
    child.prepare(base)
    flags = {binary: child.flags_of(binary) for binary in child.binaries()}
    cases = [
      case
      for case in inputs.cases(base, flags)
      if re.search(asked.kind, case.kind)
    ]
    print(f"{len(cases)} cases are known", flush=True)
    if 0 < asked.count < len(cases):
      cases = random.Random(asked.seed).sample(cases, asked.count)
    for number, case in enumerate(cases):
      ended = child.run(
        case, base / "cases" / str(number), asked.seconds, train=asked.train
      )
      counts[ended.outcome] += 1
      if ended.outcome in (child.TRACEBACK, child.HUNG, child.OTHER):
        bad += 1
        words = " ".join(map(ascii, case.arguments)).replace(name, "BASE")
        print(f"{ended.outcome} ({ended.status}) [{case.kind}]:")
        print(f"  {case.binary} {words[:300]}")
        print(f"  {ascii(_last(ended.errors))[:300]}", flush=True)
  for outcome in child.OUTCOMES:
    print(f"{outcome:10} {counts[outcome]}")
  return 1 if bad else 0


def _last(errors: str) -> str:
  """The line that says what went wrong."""
  lines = [line for line in errors.splitlines() if line.strip()]
  return lines[-1] if lines else ""


if __name__ == "__main__":
  sys.exit(main())
