"""Checkpoints: the newest two are kept, and damaged ones are set aside."""

import contextlib
import errno
import os
import pathlib
import shutil
import tempfile
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl.testing import absltest
from jax.sharding import NamedSharding, PartitionSpec

from jaxlook.errors import DamagedError
from jaxlook.runs import io_faults
from jaxlook.training.checkpoints import Checkpoints
from jaxlook.training.mesh import MeshShape
from tests.fixtures import base


def _tree(value):
  return {
    "states": (jnp.full((2, 3), value), jnp.full(2, int(value), jnp.int32)),
    "history": np.full((4, 2), value, np.float32),
  }


class CheckpointsTest(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(root) / "deep" / "checkpoints"

  def _open(self, **options):
    """Opens the folder as a new process would."""
    return contextlib.closing(Checkpoints(self.folder, **options))

  def _restore(self, like, lines=None, of=""):
    """Restores the newest; lines about damage are only allowed in a list."""
    warn = self.fail if lines is None else lines.append
    with self._open(of=of) as checkpoints:
      return checkpoints.restore_newest(like, warn)

  def _save(self, *steps, of=""):
    with self._open(of=of) as checkpoints:
      for step in steps:
        checkpoints.save(step, _tree(step))

  def test_empty(self):
    """A new folder is created and has no checkpoint."""
    self.assertIsNone(self._restore(_tree(0)))
    self.assertTrue(self.folder.is_dir())

  def test_round_trip(self):
    """Type, shape and every bit are restored."""
    tree = _tree(0)
    tree["history"][0] = [np.nan, 1e-45]
    with self._open() as checkpoints:
      checkpoints.save(7, tree)
    step, restored = self._restore(_tree(1))
    self.assertEqual(step, 7)
    chex.assert_trees_all_equal(restored, tree)
    chex.assert_trees_all_equal_dtypes(restored, tree)

  def test_the_newest_two_are_kept(self):
    """And in the end the newest, and those that were asked for."""
    self._save(5, 20, 100)
    step, restored = self._restore(_tree(0))
    self.assertEqual(step, 100)
    chex.assert_trees_all_equal(restored, _tree(100))
    self.assertCountEqual(os.listdir(self.folder), ["20", "100"])
    self._save(120)
    self.assertEqual(self._restore(_tree(0))[0], 120)
    with self._open(keep=[100, 130]) as checkpoints:
      checkpoints.save(130, _tree(130))
      checkpoints.save(140, _tree(140))
      checkpoints.save(150, _tree(150))
      self.assertEqual(checkpoints.steps(), [100, 130, 140, 150])
      checkpoints.drop_old()
    self.assertCountEqual(os.listdir(self.folder), ["100", "130", "150"])

  def test_saving_twice(self):
    """A step may be saved twice, also after a restart."""
    self._save(5, 5)
    self._save(5)
    step, restored = self._restore(_tree(0))
    self.assertEqual(step, 5)
    chex.assert_trees_all_equal(restored, _tree(5))

  def test_half_written_checkpoints_are_ignored(self):
    """Files of a killed process are not a checkpoint."""
    self._save(5)
    for name in ("6.orbax-checkpoint-tmp", "6.orbax-checkpoint-tmp-123"):
      (self.folder / name).mkdir()
      (self.folder / name / "junk").write_text("half")
    step, restored = self._restore(_tree(0))
    self.assertEqual(step, 5)
    chex.assert_trees_all_equal(restored, _tree(5))
    self._save(6)
    self.assertEqual(self._restore(_tree(0))[0], 6)

  def _falls_back(self, case: str, of=""):
    """Restores 10 or, with one line about the damage, 5; nothing else."""
    lines = []
    restored = self._restore(_tree(0), lines, of)
    self.assertIsNotNone(restored, case)
    step, tree = restored
    chex.assert_trees_all_equal(tree, _tree(step))
    if step == 10:
      self.assertEmpty(lines, case)
    else:
      self.assertEqual(step, 5, case)
      self.assertLen(lines, 1, case)
      path = rf"{self.folder}/10"
      self.assertRegex(
        lines[0],
        rf"^{path}\b.*; the checkpoint is now {path}\.damaged; training goes on"
        " from step 5$",
      )
      self.assertTrue((self.folder / "10.damaged").exists(), case)
    return step

  def test_a_damaged_checkpoint_is_set_aside(self):
    """Whichever file is cut, changed, gone or a folder: the one before is read.

    A checkpoint without checksums, by an earlier version, is read as it is.
    """
    self._save(5, 10)
    whole = self.folder.with_name("whole")
    shutil.copytree(self.folder, whole)

    def folder(path):
      path.unlink()
      path.mkdir()

    def flip(path):
      data = bytearray(path.read_bytes())
      data[len(data) // 2] ^= 1
      path.write_bytes(data)

    def cut(path):
      path.write_bytes(path.read_bytes()[:-1])

    files = [
      path for path in sorted((whole / "10").rglob("*")) if path.is_file()
    ]
    self.assertGreater(len(files), 8)
    for file in files:
      for change in (flip, cut, folder, pathlib.Path.unlink):
        shutil.rmtree(self.folder)
        shutil.copytree(whole, self.folder)
        change(self.folder / file.relative_to(whole))
        case = f"{change.__name__} {file.relative_to(whole)}"
        gone = file.name == "SHA256SUMS" and change is pathlib.Path.unlink
        self.assertEqual(self._falls_back(case), 10 if gone else 5, case)

  def test_training_goes_on_after_damage(self):
    """A damaged step can be saved again, and damaged again."""
    for aside in ("10.damaged", "10.damaged-2"):
      self._save(5, 10)
      shutil.rmtree(self.folder / "10" / "default")
      lines = []
      self.assertEqual(self._restore(_tree(0), lines)[0], 5)
      self.assertTrue((self.folder / aside).is_dir())
    self._save(10)
    self.assertEqual(self._restore(_tree(0))[0], 10)

  def test_without_a_whole_checkpoint_training_starts_anew(self):
    """And says so."""
    self._save(5)
    (self.folder / "5" / "SHA256SUMS").write_text("")
    lines = []
    self.assertIsNone(self._restore(_tree(0), lines))
    self.assertRegex(lines[0], "; training goes on from the start$")

  def test_a_copy_of_another_step_or_run_is_damaged(self):
    """Whole, but not what was written here."""
    self._save(5, of="a run")
    shutil.copytree(self.folder / "5", self.folder / "10")
    self.assertEqual(self._falls_back("step", of="a run"), 5)
    shutil.rmtree(self.folder / "10.damaged")
    other = self.folder.with_name("other")
    os.rename(self.folder, other)
    self._save(10, of="another run")
    os.rename(self.folder / "10", other / "10")
    shutil.rmtree(self.folder)
    os.rename(other, self.folder)
    self.assertEqual(self._falls_back("run", of="a run"), 5)
    with self._open(alone=True, of="another run") as checkpoints:
      with self.assertRaisesRegex(DamagedError, "/5 was written by another"):
        checkpoints.restore(_tree(0), 5)

  def test_a_checkpoint_of_an_earlier_version_is_read(self):
    """It has no checksums; damage that Orbax finds is damage all the same."""
    self._save(5, 10)
    for step in ("5", "10"):
      (self.folder / step / "SHA256SUMS").unlink()
    self.assertEqual(self._falls_back("whole"), 10)
    (self.folder / "10" / "default" / "_METADATA").write_text("{")
    self.assertEqual(self._falls_back("damaged"), 5)

  def test_what_cannot_be_read_is_not_damaged(self):
    """A fault of the machine is reported; the checkpoint stays as it is."""
    self._save(5, 10)
    for error, message in (
      (OSError(errno.EIO, "Input/output error"), "10: Input/output error"),
      (ValueError("[os_error_code='13']"), "10: Permission denied"),
      # Its checksums are right.
      (ValueError("no such thing"), "10: cannot be read"),
    ):
      with (
        mock.patch.object(ocp.CheckpointManager, "restore", side_effect=error),
        self.assertRaises(OSError) as caught,
      ):
        self._restore(_tree(0))
      self.assertEndsWith(io_faults.line(caught.exception), message)
    self.assertEqual(self._restore(_tree(0))[0], 10)

  def test_what_cannot_be_written_is_named(self):
    """Also where Orbax only finds that a folder is not there."""
    for error, message in (
      (ValueError("[os_error_code='28']"), "5: No space left on device"),
      (ValueError("No such\nfolder"), "5: cannot be written: No such folder"),
    ):
      with (
        mock.patch.object(ocp.CheckpointManager, "save", side_effect=error),
        self.assertRaises(OSError) as caught,
      ):
        self._save(5)
      self.assertEndsWith(io_faults.line(caught.exception), message)

  def test_onto_devices(self):
    """A checkpoint is restored to the devices in `like`."""
    self._save(5)
    sharding = NamedSharding(MeshShape(2).build(), PartitionSpec("seed"))
    like = _tree(0)
    like["states"] = jax.device_put(like["states"], sharding)
    _, restored = self._restore(like)
    for x in restored["states"]:
      self.assertLen(x.sharding.device_set, 2)
      self.assertEqual(x.sharding, sharding)
    chex.assert_trees_all_equal(restored, _tree(5))

  def test_another_shape(self):
    """A tree of other shapes or names is an error."""
    self._save(5)
    for change, message in (
      (
        {"history": np.zeros((3, 2), np.float32)},
        r"after 5 steps is of another run: its history has shape \(4, 2\), not"
        r" \(3, 2\)",
      ),
      ({"history": np.zeros((5, 2), np.float32)}, r"not \(5, 2\)"),
      (
        {"states": (jnp.zeros((3, 3)), jnp.zeros(3, jnp.int32))},
        r"its states.0 has shape \(2, 3\), not \(3, 3\)",
      ),
      ({"other": jnp.zeros(2)}, r"its other has shape None, not \(2,\)"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        self._restore(_tree(0) | change)
    smaller = _tree(0)
    del smaller["history"]
    with self.assertRaisesRegex(ValueError, r"history has .* not None"):
      self._restore(smaller)


if __name__ == "__main__":
  absltest.main()
