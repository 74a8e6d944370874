"""Running a binary as a user does, and reading what it wrote."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from absl import flags
from absl.testing import flagsaver

from experiments.common import app
from jaxlook.runs.result_schema import validate_result
from tests import base

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


class StudyTestCase(base.TestCase):
  """Runs a study at its smallest scale into `out`."""

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.out = self.root / "run"

  def run_study(self, name: str, *arguments: str):
    """Runs a study and returns its checked result."""
    arguments = ("--preset=smoke", f"--out={self.out}", *arguments)
    done = run(name, *arguments)
    self.assertEqual(done.returncode, 0, done.stderr)
    found = result(self.out)
    self.assertEqual(found["experiment"], name)
    report = (self.out / "report.md").read_text()
    for figure in self.out.glob("figures/*"):
      self.assertIn(f"figures/{figure.name}", report)
    return found


class RefusalTestCase(base.TestCase):
  """Expects a binary to refuse flags, in `root`, before any training."""

  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.root = pathlib.Path(root)
    if not flags.FLAGS.is_parsed():
      flags.FLAGS(sys.argv[:1])

  def run_here(self, binary, **values):
    """Runs a binary's main in this process, which has imported all it needs.

    Returns:
      Its checked result, and its report.
    """
    out = self.root / "run"
    values = {"preset": "smoke", "out": str(out)} | values
    with (
      flagsaver.flagsaver(**values),
      contextlib.redirect_stdout(io.StringIO()),
    ):
      binary.main()
    return result(out), (out / "report.md").read_text()

  def refuse(self, binary, message, **values):
    """Runs a binary's main and expects a refusal, with nothing trained."""
    values = {"preset": "smoke", "out": str(self.root / "run")} | values
    with (
      flagsaver.flagsaver(**values),
      contextlib.redirect_stdout(io.StringIO()),
      self.assertRaises(app.UsageError) as caught,
    ):
      binary.main()
    self.assertRegex(str(caught.exception), message)
    self.assertLen(str(caught.exception).splitlines(), 1)
    self.assertEmpty(list(self.root.glob("run/arms/*/*")))
