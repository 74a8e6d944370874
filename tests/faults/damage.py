"""Damages run folders, runs the same command again, and counts the ends.

    python -m tests.faults.damage [--count=70] [--seed=0]

A good end is the numbers of the undamaged run with at most one line said, or
one line that names what is damaged and exit status 1 or 2.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator

from jaxlook.training.checkpoints import Checkpoints
from tests.faults import rerun

_ARM = "myopic"
Change = Callable[[pathlib.Path, random.Random], None]


def _flip(path: pathlib.Path, draw: random.Random) -> None:
  data = bytearray(path.read_bytes())
  if data:
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
  path.write_bytes(data)


def _cut(path: pathlib.Path, draw: random.Random) -> None:
  del draw
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: pathlib.Path, draw: random.Random) -> None:
  del draw
  path.write_bytes(b"")


def _delete(path: pathlib.Path, draw: random.Random) -> None:
  del draw
  shutil.rmtree(path) if path.is_dir() else path.unlink()


def _folder(path: pathlib.Path, draw: random.Random) -> None:
  _delete(path, draw)
  path.mkdir()


def _file(path: pathlib.Path, draw: random.Random) -> None:
  _delete(path, draw)
  path.write_text("x")


def _seed_less(path: pathlib.Path, draw: random.Random) -> None:
  del draw
  result = json.loads(path.read_bytes())
  result["cells"] = result["cells"][:-1]
  path.write_text(json.dumps(result))


def _from_other_arm(path: pathlib.Path, draw: random.Random) -> None:
  del draw
  arms = path.parents[2]
  other = next(a for a in sorted(arms.iterdir()) if a != path.parents[1])
  found = max((other / "checkpoints").iterdir(), key=lambda p: int(p.name))
  shutil.rmtree(path)
  shutil.copytree(found, path)


def _later(path: pathlib.Path, draw: random.Random) -> None:
  del draw
  shutil.copytree(path, path.with_name(f"{int(path.name) + 5}"))


_ON_FILE: tuple[Change, ...] = (_flip, _cut, _empty, _delete, _folder)


def _damages(root: pathlib.Path) -> Iterator[tuple[pathlib.Path, Change]]:
  """All damages of a run folder, as paths within it."""
  for path in sorted(root.rglob("*")):
    here = path.relative_to(root)
    if path.is_file():
      yield from ((here, change) for change in _ON_FILE)
      if here.name == "result.json" and here.parts[0] == "arms":
        yield here, _seed_less
    else:
      yield from ((here, change) for change in (_delete, _file))
      if path.parent.name == "checkpoints":
        yield from ((here, change) for change in (_from_other_arm, _later))


def main() -> int:
  """Runs the cases; returns 1 if one of them ended badly."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--count", type=int, default=70)
  parser.add_argument("--seed", type=int, default=0)
  asked = parser.parse_args()
  draw, counts = random.Random(asked.seed), collections.Counter()
  with tempfile.TemporaryDirectory() as name:
    base = pathlib.Path(name).resolve()
    rerun.start(base)
    rerun.run(base / "finished" / "run", _ARM)
    whole = rerun.cells(base / "finished" / "run")
    rerun.run(base / "stopped" / "run", _ARM, _die_in_second_arm)
    groups = collections.defaultdict(list)
    for state in ("finished", "stopped"):
      for path, change in _damages(base / state / "run"):
        part = "checkpoints" in path.parts
        groups[state, part, change.__name__].append((state, path, change))
    # Each kind in turn, so that rare ones are among the first.
    for group in groups.values():
      draw.shuffle(group)
    cases = []
    while any(groups.values()) and len(cases) < asked.count:
      cases += [group.pop() for group in groups.values() if group]
    for number, (state, path, change) in enumerate(cases[: asked.count]):
      out = base / str(number) / "run"
      shutil.copytree(base / state / "run", out)
      change(out / path, draw)
      ended = rerun.run(out, _ARM)
      # An arm, or a file of the run.
      named = out.joinpath(*path.parts[:2])
      outcome, why = rerun.judge(ended, out, whole, str(named))
      counts[outcome] += 1
      if outcome == rerun.BAD:
        print(f"{state}, {change.__name__}, {path}: {why}")
        print(f"  {ascii(ended.errors[-300:])}", flush=True)
      shutil.rmtree(out.parent)
  print(dict(counts))
  return 1 if counts[rerun.BAD] else 0


def _die_in_second_arm() -> None:
  """Ends this process after a checkpoint of the second arm."""
  save = Checkpoints.save

  def save_and_die(self: Checkpoints, step: int, tree: object) -> None:
    save(self, step, tree)
    if step == 20 and f"/{_ARM}" in str(self._folder):
      os._exit(0)

  Checkpoints.save = save_and_die


if __name__ == "__main__":
  sys.exit(main())
