"""Meshes: losses are the same under every split; bad meshes are errors."""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized
from jax.sharding import PartitionSpec

from jaxlook import models
from jaxlook.models import Decoder
from jaxlook.tasks.precache import Precache
from jaxlook.training import TrainConfig, mesh, step
from jaxlook.training.mesh import Layout, MeshShape, Share, parse_mesh
from tests.fixtures import base

TASK = Precache(p=0.5, terms=2, frequency=3.0, length=4)
MODEL = models.DecoderConfig(
  layers=1,
  width=4,
  heads=2,
  max_length=4,
  input_features=2,
  output_features=1,
  mlp_width=0,
  init_std=0.3,
)
_TRAIN = TrainConfig(steps=1, batch_size=12)


@pytest.mark.multiprocess
class SplitTest(base.TestCase):
  def test_the_same_losses(self):
    """50 steps on 8 devices match one device, under each split.

    The same holds for held-out losses, for a text that the host reads, and for
    a run that resumes under another mesh.
    """
    done = subprocess.run(
      [sys.executable, "-m", "tests.fixtures.mesh_training"],
      env=os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    results = json.loads(done.stdout)
    one = results["one"]
    for name in ("all", "seed", "data", "model", "resumed"):
      np.testing.assert_allclose(
        results[name]["losses"], one["losses"], rtol=1e-5, err_msg=name
      )
    np.testing.assert_allclose(
      results["all"]["held out"], one["held out"], rtol=1e-5
    )
    (fed, read), (expected, read_by_one) = (
      results[x]["fed"] for x in ("all", "one")
    )
    np.testing.assert_allclose(fed, expected, rtol=1e-5)
    self.assertEqual(read, read_by_one)
    losses = np.asarray(one["losses"])
    self.assertLess(losses[-1].max(), 0.95 * losses[0].min())
    # Every weight has a divisible axis, so each device has a part of it.
    shares = {"one": 1, "all": 4, "seed": 2, "data": 1, "model": 8}
    for name, share in shares.items():
      np.testing.assert_array_equal(results[name]["shares"], 1 / share)


class GradientTest(base.Float64TestCase):
  @parameterized.parameters(
    (MeshShape(data=2), 1), (MeshShape(model=2), 1), (MeshShape(model=2), 3)
  )
  def test_two_devices_match_one(self, shape, microbatches):
    """Loss, gradient and norm equal those of the whole batch on one device."""
    key = jax.random.key(0)
    batch, params = TASK.batch(key, 6), models.init(MODEL, key)
    params = jax.tree.map(lambda x: np.float64(x)[None], params)
    layout = Layout(shape, shape.build())
    specs, share = layout.specs(params), layout.share(params)
    # The head's bias is not split, and is averaged differently.
    whole = [axis < 0 for axis in jax.tree.leaves(share.axes)]
    self.assertEqual(sum(whole), 1 if shape.model > 1 else len(whole))

    def measure(share, microbatches, params):
      loss, grads = step.loss_and_gradient(
        *(Decoder(MODEL), TASK, microbatches, params, share.batch(batch)),
        share=share,
      )
      return (loss, share.norm(grads)), grads

    two_devices = jax.shard_map(
      jax.vmap(functools.partial(measure, share, microbatches)),
      mesh=layout.mesh,
      in_specs=(specs,),
      out_specs=(PartitionSpec("seed"), specs),
      check_vma=False,
    )
    one_device = jax.vmap(functools.partial(measure, Share(), 1))
    actual, expected = (
      jax.tree.map(np.asarray, jax.jit(f)(params))
      for f in (two_devices, one_device)
    )
    self.assert_close(actual, expected)

  def test_sums_over_model_become_means(self):
    """For data:2,model:3, split gradients arrive summed over 3 devices."""
    each = np.random.default_rng(0).normal(size=(2, 3, 4))
    sums = np.broadcast_to(each.sum(axis=1, keepdims=True), each.shape)
    share = Share(MeshShape(data=2, model=3), {"split": 0, "whole": -1})
    # `vmap` axes simulate six devices.
    along_model = jax.vmap(share.mean_gradient, axis_name="model")
    along_both = jax.vmap(along_model, axis_name="data")
    means = along_both({"split": sums, "whole": each})
    expected = np.broadcast_to(each.mean(axis=(0, 1)), each.shape)
    self.assert_close(means, {"split": expected, "whole": expected})


class ShapeTest(base.TestCase):
  def test_flag_form(self):
    """Axes may have any order; axes left out have one device."""
    self.assertEqual(parse_mesh("model:2,seed:4"), MeshShape(4, 1, 2))
    self.assertEqual(parse_mesh("data:3"), MeshShape(data=3))

  @parameterized.parameters(
    "",
    "seed",
    "seed:x",
    "seed:2;data:2",
    "heads:2",
    "seed:1,seed:2",
    "data:-1",
    "seed:٢",
  )
  def test_bad_flag_forms_are_refused(self, text):
    """Any other text is an error."""
    with self.assertRaisesRegex(ValueError, "mesh must be like seed:2,data:2"):
      parse_mesh(text)

  @parameterized.parameters(
    (MeshShape(3), 3, "mesh must use at most the 2 devices here, not 3"),
    (MeshShape(2), 3, "mesh axis seed must divide the 3 seeds, not be 2"),
    (
      MeshShape(data=2),
      1,
      "mesh axes .* divide a microbatch of 3 sequences, not be 2",
    ),
  )
  def test_uneven_shares_are_refused(self, shape, seeds, message):
    """Too few devices, and indivisible seeds or sequences, are errors."""
    train = TrainConfig(steps=1, batch_size=12, microbatches=4)
    with self.assertRaisesRegex(ValueError, message):
      shape.check(seeds, train)
    shape = MeshShape(data=2)
    shape.check(seeds, TrainConfig(steps=1, batch_size=12, microbatches=6))

  def test_an_axis_of_size_0_is_refused(self):
    """An axis must have at least one device."""
    with self.assertRaisesRegex(ValueError, "mesh axis data must be at least"):
      parse_mesh("data:0")

  def test_automatic_mesh(self):
    """It uses as many of the two devices as divide the seeds."""
    for count, used in ((1, 1), (2, 2), (3, 1), (4, 2), (5, 1)):
      self.assertEqual(mesh.automatic_mesh(count), MeshShape(seed=used))

  def test_largest_axis(self):
    """Weights are split along their largest divisible axis, if any."""
    layout = Layout(MeshShape(model=2), MeshShape(model=2).build())
    shapes = {
      (5, 6, 4): 0,
      (5, 4, 6): 1,
      (5, 3, 4): 1,
      (5, 7, 3): None,
      (5,): None,
    }
    for shape, axis in shapes.items():
      axes = [None] * (len(shape) - 1)
      if axis is not None:
        axes[axis] = "model"
      self.assertEqual(
        layout.specs(jnp.zeros(shape)), PartitionSpec("seed", *axes)
      )
    self.assertEqual(jax.tree.leaves(layout.specs({})), [])


if __name__ == "__main__":
  absltest.main()
