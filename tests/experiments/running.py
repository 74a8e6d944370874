"""Running a binary as a user does, and reading what it wrote."""

import json
import os
import pathlib
import subprocess
import sys

from jaxlook.results import validate_result

ROOT = pathlib.Path(__file__).parents[2]


def command(name: str, *arguments: str) -> list[str]:
  """The command line of a binary."""
  return [sys.executable, "-m", f"experiments.{name}", *arguments]


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
  """Runs a binary to its end on the CPU."""
  return subprocess.run(
    command(name, *arguments),
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )


def result(out: pathlib.Path):
  """The checked result.json of a run folder."""
  found = json.loads((out / "result.json").read_text())
  validate_result(found)
  return found
