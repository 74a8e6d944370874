"""Checkpoints: the newest whole one is kept."""

import pathlib
import tempfile

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from jax.sharding import NamedSharding, PartitionSpec

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

  def _restore(self, like):
    """Restores as a new process would."""
    checkpoints = Checkpoints(self.folder)
    try:
      return checkpoints.restore(like)
    finally:
      checkpoints.close()

  def _save(self, *steps):
    checkpoints = Checkpoints(self.folder)
    for step in steps:
      checkpoints.save(step, _tree(step))
    checkpoints.close()

  def test_empty(self):
    """A new folder is created and has no checkpoint."""
    self.assertIsNone(self._restore(_tree(0)))
    self.assertTrue(self.folder.is_dir())

  def test_round_trip(self):
    """Type, shape and every bit are restored."""
    tree = _tree(0)
    tree["history"][0] = [np.nan, 1e-45]
    checkpoints = Checkpoints(self.folder)
    checkpoints.save(7, tree)
    checkpoints.close()
    step, restored = self._restore(_tree(1))
    self.assertEqual(step, 7)
    chex.assert_trees_all_equal(restored, tree)
    chex.assert_trees_all_equal_dtypes(restored, tree)

  def test_the_newest_is_kept(self):
    """Only the newest of several checkpoints is kept."""
    self._save(5, 20, 100)
    step, restored = self._restore(_tree(0))
    self.assertEqual(step, 100)
    chex.assert_trees_all_equal(restored, _tree(100))
    steps = [path.name for path in self.folder.iterdir() if path.name.isdigit()]
    self.assertEqual(steps, ["100"])
    self._save(120)
    self.assertEqual(self._restore(_tree(0))[0], 120)

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
