"""`--distributed`: refusals, and one line of what a lost process leaves.

That two processes train is tested in `tests.training.multihost_test`.
"""

import os
import subprocess
import sys

from absl.testing import flagsaver, parameterized

from experiments.common import app, multiprocess, stderr_filter
from jaxlook.errors import SettingError
from tests.fixtures import base, binaries

# As the runtime of JAX 0.10.2 says it, shortened.
_RUNTIME = b"""\
E1121 23:42:16.725612   31707 coordination_service_agent.cc:289] Polled an error
F1121 23:42:16.725757   31707 client.h:80] Terminating process because the JAX
distributed service detected fatal errors: The following tasks are unhealthy:
1
*** Check failure stack trace: ***
    @     0x7fcf5ec40634  absl::lts_20260107::log_internal::LogMessage::Flush()
"""


class FlagTest(base.TestCase):
  @parameterized.parameters(
    ("two", "^distributed must be auto or HOST:PORT,.* not 'two'$"),
    ("host:1,3/2", "^distributed must count .* 1, not have process 3$"),
  )
  def test_refusals(self, value, message):
    """A bad value is refused before joining."""
    with (
      flagsaver.flagsaver(distributed=value),
      self.assertRaisesRegex(SettingError, message),
    ):
      multiprocess.join()

  def test_no_cluster(self):
    """Where nothing is detected, the flag is refused in one line."""
    done = subprocess.run(
      binaries.command("precache", "--preset=smoke", "--distributed=auto"),
      cwd=binaries.ROOT,
      # Without what a cluster leaves in the environment.
      env={"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual((done.returncode, done.stdout), (app.BAD_INPUT, ""))
    self.assertRegex(
      done.stderr, "^--distributed: must be HOST:PORT.* detects no cluster.*\n$"
    )


class StderrFilterTest(base.TestCase):
  def passed_on(self, said: bytes) -> bytes:
    """The part of a process's stderr that the child passes on."""
    return subprocess.run(
      [sys.executable, "-S", stderr_filter.__file__, "gone"],
      input=said,
      capture_output=True,
      check=True,
    ).stderr

  @parameterized.parameters(
    (b"one\ntwo", b"one\ntwo"),
    (b"one\n" + _RUNTIME, b"one\ngone\n"),
    # The process printed the line itself, before the log or within it.
    (b"gone\n" + _RUNTIME, b"gone\n"),
    (_RUNTIME[:81] + b"gone\n" + _RUNTIME[81:], b"gone\n"),
    # An error that does not end the process is passed on at the end.
    (_RUNTIME[:81] + b"more\n", _RUNTIME[:81] + b"more\n"),
  )
  def test_a_crash_log_becomes_one_line(self, said, heard):
    """Everything else is passed on."""
    self.assertEqual(self.passed_on(said), heard)
