"""Faults of the machine end in one line, and cost nothing."""

import contextlib
import errno
import io
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

import numpy as np
import pyarrow as pa
from absl.testing import parameterized

from experiments.common import app, faults
from jaxlook.errors import RunFolderError
from jaxlook.runs.store import open_store
from jaxlook.training.checkpoints import Checkpoints
from tests.fixtures import base, binaries
from tests.fixtures.failing_disk import failing_call


class Ended(BaseException):
  """Stands for the end of the process."""


class OneLineTest(base.TestCase):
  def end(self, error, stdout=None, printed=""):
    """Prints, and ends by an error; returns the line and the status."""
    exits = mock.Mock(side_effect=Ended)
    with (
      mock.patch.object(os, "_exit", exits),
      mock.patch.object(sys, "stdout", stdout or io.StringIO()),
      contextlib.redirect_stderr(io.StringIO()) as errors,
      contextlib.suppress(Ended),
      faults.in_one_line(),
    ):
      if printed:
        print(printed)
      if error is not None:
        raise error
    return errors.getvalue(), exits.call_args and exits.call_args.args[0]

  @parameterized.parameters(
    (FileNotFoundError(2, "No such", "a"), "a: No such\n", 1),
    (OSError(28, "No space", "a", None, "b"), "b: No space\n", 1),
    (OSError("two\nlines"), "two lines\n", 1),
    (ValueError(f"x os_error_code='{errno.EIO}' y"), "Input/output error\n", 1),
    (
      RunFolderError("a has changed;\n delete it"),
      "a has changed; delete it\n",
      2,
    ),
    (None, "", None),
  )
  def test_line_and_status(self, error, line, status):
    """The path and the reason."""
    self.assertEqual(self.end(error), (line, status))

  @parameterized.parameters(ValueError("a bug"), KeyError("a"), SystemExit(3))
  def test_what_is_no_fault_passes(self, error):
    """Bugs keep their traceback, and exits their status."""
    with self.assertRaises(type(error)) as caught:
      self.end(error)
    self.assertIs(caught.exception, error)

  @parameterized.parameters(None, SystemExit(0))
  def test_output_that_cannot_be_written(self, error):
    """It is noticed before Python shuts down."""
    with open("/dev/full", "w") as full:
      said = self.end(error, full, printed="a")
    self.assertEqual(said, ("standard output: No space left on device\n", 1))

  def test_a_fault_comes_before_output(self):
    """One line is said, of what came first."""
    error = OSError(errno.EIO, "Input/output error", "a")
    with open("/dev/full", "w") as full:
      said = self.end(error, full, printed="a")
    self.assertEqual(said, ("a: Input/output error\n", 1))

  def test_output_comes_in_order(self):
    """What is printed before, within and afterwards, in one encoding."""
    path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "o"
    with open(path, "w", encoding="latin-1", errors="replace") as file:
      with contextlib.redirect_stdout(file):
        print("before", flush=True)
        self.assertEqual(self.end(None, file, printed="é€"), ("", None))
        print("after")
    self.assertEqual(path.read_bytes(), b"before\n\xe9?\nafter\n")

  def test_late_callbacks_are_not_reported(self):
    """Those of writes that have ended; all else is."""
    with (
      mock.patch.object(sys, "unraisablehook"),
      mock.patch.object(sys, "__unraisablehook__") as shown,
    ):
      faults.silence_libraries()
      for error in ("Event loop is closed", "another"):
        sys.unraisablehook(mock.Mock(exc_value=RuntimeError(error)))
    shown.assert_called_once()


class EveryCallTest(base.TestCase):
  """A run of two checkpoints, an arm and a result, without training."""

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def run_once(self, out):
    """Writes what is missing, as a binary does."""
    with app.blaming("out"):
      store = open_store(out, {})
    with store:
      arm = store.arm("causal", {})
      if not arm.finished:
        tree = {"x": np.zeros(3)}
        with contextlib.closing(
          Checkpoints(arm.checkpoints, of=arm.fingerprint)
        ) as saved:
          found = saved.restore_newest(tree, warn=self.fail)
          done, tree = found or (0, tree)
          for step in range(done + 1, 3):
            tree = {"x": tree["x"] + step}
            saved.save(step, tree)
        arm.write_result({"x": tree["x"]}, pa.table({"step": [1, 2]}))
      return arm.result()

  @parameterized.parameters(errno.ENOSPC, errno.EIO, errno.EACCES)
  def test_one_line_and_nothing_lost(self, number):
    """Whichever call fails: a path in the folder, the reason, and no more."""
    before = self.root / "whole"
    whole = self.run_once(before)
    reason = os.strerror(number)
    said = 0
    # Each error begins at another call; primes reach calls of all kinds.
    for at in range(number % 3, 400, 17):
      out = self.root / str(at)
      try:
        with failing_call(out, at, number) as failed:
          self.run_once(out)
      except app.UsageError as error:
        self.assertEqual(error.status, faults.FAILED)
        self.assertRegex(str(error), rf"^--out: .*{out}.*: {reason}$")
        said += 1
      except Exception as error:
        self.assertRegex(faults.line(error), rf"^{out}/.*: {reason}$", failed)
        said += 1
      self.assertEqual(self.run_once(out), whole, failed)
      if not failed:
        break
    self.assertGreater(said, 5)


class BinaryTest(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.out = pathlib.Path(root) / "run"

  def run_shell(self, script, *arguments, cache="true"):
    """Runs a binary by a line of shell, which has it as "$@"."""
    return subprocess.run(
      ["sh", "-c", script, "sh"]
      + binaries.command("precache", "--preset=smoke", *arguments),
      cwd=binaries.ROOT,
      env=os.environ
      | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": cache},
      capture_output=True,
      text=True,
    )

  def test_a_checkpoint_that_cannot_be_written(self):
    """Orbax and its threads say nothing beside the line."""
    # No file may be larger than a few blocks. JAX warns about its own files.
    done = self.run_shell(
      'ulimit -f 4; "$@"',
      "--attention=causal",
      f"--out={self.out}",
      cache="false",
    )
    self.assertEqual(
      done.stderr, f"{self.out}/arms/causal/checkpoints/10: File too large\n"
    )
    self.assertEqual(done.returncode, 1)

  def test_output_that_cannot_be_written(self):
    """Also of --help."""
    for argument in ("--help", f"--out={self.out}"):
      done = self.run_shell(
        '"$@" > /dev/full', "--attention=causal", "--steps=20", argument
      )
      self.assertEqual(
        done.stderr, "standard output: No space left on device\n"
      )
      self.assertEqual(done.returncode, 1)
