"""What tasks of Ray need, and clusters that there are not."""

import os
import unittest
from unittest import mock

from absl.testing import parameterized

from experiments import precache
from experiments.common import ray_cluster
from tests.fixtures import binaries

try:
  import ray
except ImportError:
  ray = None


class ResourcesTest(parameterized.TestCase):
  def test_reads_amounts(self):
    """Names of Ray with amounts; processors and GPUs in either case."""
    self.assertEqual(
      ray_cluster.parse_resources("cpu:2, GPU:0.5,TPU-v4:4"),
      {"CPU": 2.0, "GPU": 0.5, "TPU-v4": 4.0},
    )
    self.assertEqual(
      ray_cluster.parse_resources("gpu:1"), {"CPU": 0.0, "GPU": 1.0}
    )

  def test_tasks_without_accelerators_stay_on_processors(self):
    """What JAX reads is sent, and only tasks that ask for GPUs may see any."""
    here = {"XLA_FLAGS": "--some", "HOME": "/", "JAX_PLATFORMS": "cuda"}
    with mock.patch.dict(os.environ, here, clear=True):
      gpu = ray_cluster.task_options({"CPU": 0.0, "GPU": 0.5, "disk": 2.0})
      sent = ray_cluster.task_options({"CPU": 1.0, "GPU": 0.0})["runtime_env"]
    self.assertEqual(
      sent, {"env_vars": {"XLA_FLAGS": "--some", "JAX_PLATFORMS": "cuda"}}
    )
    self.assertEqual(
      gpu,
      {
        "num_cpus": 0.0,
        "num_gpus": 0.5,
        "resources": {"disk": 2.0},
        "runtime_env": {"env_vars": {"XLA_FLAGS": "--some"}},
      },
    )
    with mock.patch.dict(os.environ, clear=True):
      sent = ray_cluster.task_options({"CPU": 1.0})["runtime_env"]
    self.assertEqual(sent, {"env_vars": {"JAX_PLATFORMS": "cpu"}})

  @parameterized.parameters(
    ("", "must be like cpu:1"),
    ("cpu", "must be like cpu:1"),
    ("cpu:-1", "must be like cpu:1"),
    ("cpu:1,CPU:2", "names CPU twice"),
    ("gpu:1.5", "GPU:1.5 must be whole"),
  )
  def test_refuses(self, text, message):
    """Bad amounts are refused with what they should be."""
    with self.assertRaisesRegex(ValueError, message):
      ray_cluster.parse_resources(text)


@unittest.skipIf(ray is None, "needs Ray: pip install jaxlook[cluster]")
class AddressTest(binaries.RefusalTestCase):
  def test_a_cluster_that_does_not_answer(self):
    """An address without a cluster is refused at once."""
    with mock.patch.dict(os.environ, RAY_ADDRESS="127.0.0.1:1"):
      self.refuse(
        precache,
        "^--launcher: no cluster at RAY_ADDRESS=127.0.0.1:1: .* refused$",
        launcher="ray",
      )
