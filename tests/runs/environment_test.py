"""Tests of jaxlook.runs.environment: versions, devices, commit."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

import jax
import numpy as np
from absl.testing import absltest

from jaxlook.runs import environment as module
from jaxlook.runs.environment import environment
from tests.fixtures import base


class EnvironmentTest(base.TestCase):
  def test_says_what_is_installed(self):
    """Versions and devices are those of this process."""
    found = environment()
    self.assertEqual(found["jax"], jax.__version__)
    self.assertEqual(found["numpy"], np.__version__)
    self.assertEqual(found["device"], jax.devices()[0].device_kind)
    self.assertEqual(found["platform"], jax.devices()[0].platform)
    self.assertEqual(found["device_count"], jax.device_count())
    self.assertContainsSubset(
      ("jaxlook", "jaxlib", "flax", "optax", "python", "os", "cpu_count"), found
    )

  def test_does_without_a_device(self):
    """An accelerator that does not start is "unavailable", not an error."""
    broken = RuntimeError("no backend")
    with mock.patch.object(jax, "devices", side_effect=broken):
      found = environment()
    self.assertEqual(found["device"], "unavailable")
    self.assertEqual(found["device_count"], 0)

  def test_does_without_git_or_package(self):
    """No git and no installed package give None, not an error."""
    missing = mock.patch.object(
      module.importlib.metadata,
      "version",
      side_effect=module.importlib.metadata.PackageNotFoundError("jaxlook"),
    )
    with missing, mock.patch.dict(os.environ, {"PATH": ""}):
      found = environment()
    self.assertIsNone(found["commit"])
    self.assertIsNone(found["flax"])


class CommitTest(base.TestCase):
  def setUp(self):
    super().setUp()
    if shutil.which("git") is None:
      self.skipTest("git is not installed")
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.code = self.folder / "environment.py"
    self.code.write_text("1\n")
    self.enterContext(mock.patch.object(module, "__file__", str(self.code)))

  def _git(self, *arguments: str) -> str:
    # A hook that runs these tests points git at its own checkout.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    return subprocess.run(
      ["git", *who, *arguments],
      cwd=self.folder,
      env=clean,
      check=True,
      capture_output=True,
      text=True,
    ).stdout.strip()

  def test_commit(self):
    """The commit is HEAD, and "+dirty" once a file differs from it."""
    self._git("init")
    self._git("add", "environment.py")
    self.assertIsNone(environment()["commit"])
    self._git("commit", "-m", "first")
    head = self._git("rev-parse", "HEAD")
    self.assertEqual(environment()["commit"], head)
    self.code.write_text("2\n")
    self.assertEqual(environment()["commit"], f"{head}+dirty")

  def test_a_hook_does_not_mislead(self):
    """GIT_DIR of somebody else's checkout is not looked at."""
    self._git("init")
    self._git("add", "environment.py")
    self._git("commit", "-m", "first")
    head = self._git("rev-parse", "HEAD")
    with mock.patch.dict(os.environ, {"GIT_DIR": "/nonexistent"}):
      self.assertEqual(environment()["commit"], head)

  def test_someone_elses_checkout(self):
    """Code that a checkout holds but does not track has no commit."""
    self._git("init")
    (self.folder / "other").write_text("")
    self._git("add", "other")
    self._git("commit", "-m", "first")
    self.assertIsNone(environment()["commit"])

  def test_no_checkout(self):
    """Outside a checkout there is no commit."""
    self.assertIsNone(environment()["commit"])


if __name__ == "__main__":
  absltest.main()
