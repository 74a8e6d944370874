"""A binary whose arms read another's context, on Ray and in two processes."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import numpy as np
import pytest
from absl.testing import absltest

from tests.fixtures import base, binaries
from tests.fixtures.ports import free_port

try:
  import ray
except ImportError:
  ray = None

_SECONDS = 300


@pytest.mark.multiprocess
class LocalMyopiaTest(base.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.root = pathlib.Path(folder)
    cls.alone = cls.losses(cls.start("alone"), "alone")

  @classmethod
  def start(cls, out: str, *arguments: str) -> list[subprocess.Popen]:
    """Starts a binary once."""
    command = binaries.command(
      *("language", "--preset=smoke", "--steps=10", "--seeds=2"),
      "--attention=teacher/residual",
      f"--cache={cls.root / 'cache'}",
      f"--out={cls.root / out}",
      *arguments,
    )
    process = subprocess.Popen(
      command,
      cwd=binaries.ROOT,
      env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    cls.addClassCleanup(process.__exit__, None, None, None)
    cls.addClassCleanup(process.kill)
    return [process]

  @classmethod
  def losses(cls, started, out):
    """What each arm and seed came to, once all processes have ended well."""
    for process in started:
      _, errors = process.communicate(timeout=_SECONDS)
      if (process.returncode, errors) != (0, ""):
        raise AssertionError(f"ended with {process.returncode}: {errors}")
    result = json.loads((cls.root / out / "result.json").read_text())
    return {
      (cell["variant"], cell["seed"]): cell["metrics"]["loss"]
      for cell in result["cells"]
    }

  @unittest.skipIf(ray is None, "needs Ray: pip install jaxlook[cluster]")
  def test_a_launcher(self):
    """The teacher is trained by one worker and read by another: equal."""
    launched = self.losses(self.start("launched", "--launcher=ray"), "launched")
    self.assertEqual(launched, self.alone)
    self.assertLen({arm for arm, _ in launched}, 7)

  def test_two_processes(self):
    """Each trains its seeds, under a teacher of which it reads its own."""
    port = free_port()
    started = []
    for index in range(2):
      started += self.start("both", f"--distributed=127.0.0.1:{port},{index}/2")
    found = self.losses(started, "both")
    self.assertEqual(found.keys(), self.alone.keys())
    np.testing.assert_allclose(
      list(found.values()), list(self.alone.values()), rtol=1e-5
    )


if __name__ == "__main__":
  absltest.main()
