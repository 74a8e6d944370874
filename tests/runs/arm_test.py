"""Arms: finished after their result, and refused where a file has changed."""

import json
import math
import os
import shutil
import tempfile
import threading
from pathlib import Path
from unittest import mock

import pyarrow as pa
from absl.testing import absltest, parameterized

from jaxlook import runs
from jaxlook.errors import RunFolderError
from tests.fixtures import base

_CONFIG = {"steps": 100}
_METRICS = pa.table({"step": [1, 2], "loss": [0.5, None]})
_FILES = (
  "SHA256SUMS",
  "config.json",
  "environment.json",
  "metrics.parquet",
  "result.json",
)


class ArmTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.root = Path(self.enterContext(tempfile.TemporaryDirectory())) / "run"
    self.store = self.enterContext(runs.open_store(self.root, _CONFIG))

  def test_finished_after_its_result(self):
    """An arm is finished once its result is written, with all it is made of."""
    arm = self.store.arm("leak:0.3/kv", {"beta": 0.3, "seeds": (0, 1)})
    self.assertEqual(arm.root, self.root / "arms" / "leak@0.3+kv")
    self.assertEqual(arm.checkpoints, arm.root / "checkpoints")
    self.assertFalse(arm.finished)
    written = arm.write_result({"loss": math.nan, "ends": (1, 2)}, _METRICS)
    again = self.store.arm("leak:0.3/kv", {"beta": 0.3, "seeds": [0, 1]})
    self.assertTrue(again.finished)
    self.assertEqual(again.result(), {"loss": None, "ends": [1, 2]})
    self.assertEqual(written, again.result())
    self.assertTrue(again.metrics().equals(_METRICS))
    self.assertCountEqual(os.listdir(arm.root), _FILES)
    environment = json.loads((arm.root / "environment.json").read_text())
    self.assertIn("jax", environment)

  def test_another_process_s_result_may_come_late(self):
    """It is waited for, but not for ever."""
    arm = self.store.arm("causal", {})
    hidden = runs.Arm(self.root / "not seen yet", follows=True)
    for each in (arm, hidden):
      with self.assertRaisesRegex(runs.Unseen, "shows no result here"):
        each.await_result(0.3)
    late = threading.Timer(0.3, arm.write_result, ({"loss": 1}, _METRICS))
    late.start()
    arm.await_result()
    self.assertEqual(arm.result(), {"loss": 1})
    late.join()

  def test_result_is_written_last(self):
    """Cut off at any rename, an arm is unfinished and can be finished."""
    replace = os.replace
    for allowed in range(4):
      arm = self.store.arm(f"horizon:{allowed}", {})
      calls = []

      def cut(source, target, calls=calls, allowed=allowed):
        if len(calls) == allowed:
          raise OSError("power cut")
        calls.append(target)
        replace(source, target)

      with (
        mock.patch.object(os, "replace", cut),
        self.assertRaisesRegex(OSError, "power cut"),
      ):
        arm.write_result({}, _METRICS)
      self.assertLen(calls, allowed)
      self.assertFalse(arm.finished)
      with self.assertRaises(OSError):
        arm.result()
      arm.write_result({}, _METRICS)
      self.assertTrue(arm.finished)

  def _damage(self):
    """Damages each file of a finished arm in turn; yields what was done."""
    arm = self.store.arm("causal", {"a": 1})
    arm.write_result({"cells": [0, 1]}, _METRICS)
    whole = self.root / "whole"
    shutil.copytree(arm.root, whole)

    def change(path):
      data = bytearray(path.read_bytes())
      data[-3] ^= 1
      path.write_bytes(data)

    def cut(path):
      path.write_bytes(path.read_bytes()[:-2])

    def folder(path):
      path.unlink()
      path.mkdir()

    for file in _FILES:
      for damage in (change, cut, folder, Path.unlink):
        shutil.rmtree(arm.root)
        shutil.copytree(whole, arm.root)
        damage(arm.root / file)
        yield arm, file, damage.__name__

  def test_a_damaged_file_is_named(self):
    """Whichever has changed, is gone or a folder; nothing is written.

    Without a result the arm is not finished. Without checksums it is like one
    of an earlier version.
    """
    for arm, file, damage in self._damage():
      with self.subTest(f"{damage} {file}"):
        before = sorted(arm.root.rglob("*"))
        if (file, damage) == ("result.json", "unlink"):
          self.assertFalse(arm.finished)
        elif (file, damage) == ("SHA256SUMS", "unlink"):
          self.assertEqual(arm.result(), {"cells": [0, 1]})
        else:
          self.assertTrue(arm.finished)
          with self.assertRaisesRegex(
            RunFolderError,
            rf"^{arm.root}/{file} (has changed since it was written|is missing"
            r"|is a folder, not a file); to train this arm again, delete the"
            rf" folder {arm.root}$",
          ):
            arm.result()
        self.assertEqual(sorted(arm.root.rglob("*")), before)

  def test_a_result_with_a_seed_less_is_damaged(self):
    """Valid JSON, but not what was written."""
    arm = self.store.arm("causal", {})
    arm.write_result({"cells": [0, 1]}, _METRICS)
    (arm.root / "result.json").write_text(json.dumps({"cells": [0]}))
    with self.assertRaisesRegex(RunFolderError, "/result.json has changed"):
      arm.result()

  @parameterized.parameters("", "{", "[]", '{"a": ')
  def test_half_a_result_of_an_earlier_version_is_damaged(self, text):
    """There are no checksums, and it is not trained again unasked."""
    arm = self.store.arm("causal", {})
    (arm.root / "result.json").write_text(text)
    self.assertTrue(arm.finished)
    with self.assertRaisesRegex(RunFolderError, "does not hold.*; to train"):
      arm.result()

  def test_metrics_that_are_no_table_are_damaged(self):
    """Also in an arm without checksums."""
    arm = self.store.arm("causal", {})
    (arm.root / "metrics.parquet").write_text("PAR1")
    with self.assertRaisesRegex(RunFolderError, "parquet holds no table; to"):
      arm.metrics()

  def test_refuses_an_arm_of_another_config(self):
    """An arm that was begun with another config is not resumed."""
    self.store.arm("causal", {"lr": 0.1})
    with self.assertRaisesRegex(
      RunFolderError,
      "arms/causal belongs .*: lr is 0.1 there, 0.2 here; choose",
    ):
      self.store.arm("causal", {"lr": 0.2})

  @parameterized.parameters("{", "folder")
  def test_refuses_an_arm_without_a_config(self, text):
    """A config that is cut, or a folder, is named."""
    arm = self.store.arm("causal", {})
    path = arm.root / "config.json"
    path.unlink()
    if text == "folder":
      path.mkdir()
    else:
      path.write_text(text)
    with self.assertRaisesRegex(RunFolderError, rf"^{path} .*; to train this"):
      self.store.arm("causal", {})

  def test_refuses_bad_arms_and_results(self):
    """What JSON cannot hold, and an empty name, are refused."""
    with self.assertRaisesRegex(ValueError, "^config.beta: expected a finite"):
      self.store.arm("causal", {"beta": math.nan})
    with self.assertRaisesRegex(ValueError, "a text that is not empty"):
      self.store.arm("", {})
    arm = self.store.arm("causal", {})
    with self.assertRaisesRegex(ValueError, "^result.a: .* got set$"):
      arm.write_result({"a": {1}}, _METRICS)
    self.assertEqual(os.listdir(arm.root), ["config.json"])


if __name__ == "__main__":
  absltest.main()
