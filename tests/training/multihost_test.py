"""Processes that train together: equal numbers, and no process hangs."""

import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from experiments.common import multiprocess
from jaxlook.training import multihost
from jaxlook.training.multihost import Place, parse_place
from tests.fixtures import base
from tests.fixtures.ports import free_port

# Much more than needed, because the machine may be busy.
_SECONDS = 300


@pytest.mark.multiprocess
class TwoProcessesTest(base.TestCase):
  def start(self):
    """Starts the two processes."""
    port = free_port()
    started = []
    for index in range(2):
      process = subprocess.Popen(
        [
          *(sys.executable, "-m", "tests.fixtures.multiprocess_training"),
          f"--out={self.out}",
          f"--distributed=127.0.0.1:{port},{index}/2",
        ],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      # Cleanups run in reverse: kill, then wait and close the pipes.
      self.addCleanup(process.__exit__, None, None, None)
      self.addCleanup(process.kill)
      started.append(process)
    return started

  def read(self, name: str):
    """Reads a file that the processes wrote."""
    return json.loads((self.out / name).read_text())

  def test_the_same_numbers(self):
    """Two processes match one, under each split; a killed run resumes.

    They train 50 steps in float32. If one process is killed, the other ends
    with one line.
    """
    self.out = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    left, killed = self.start()
    until = time.monotonic() + _SECONDS
    while not (self.out / "stalled").exists():
      self.assertLess(time.monotonic(), until, "the processes do not train")
      if left.poll() is not None:
        self.fail(left.communicate()[1])
      time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    _, errors = left.communicate(timeout=2 * multihost.HEARTBEAT_SECONDS)
    self.assertEqual(
      (left.returncode, errors), (1, f"{multiprocess.OTHER_IS_GONE}\n")
    )
    self.assertEqual(killed.communicate(timeout=_SECONDS)[1], "")

    leader, other = self.start()
    _, errors = leader.communicate(timeout=_SECONDS)
    self.assertEqual((leader.returncode, errors), (0, ""))
    output = other.communicate(timeout=_SECONDS)
    self.assertEqual((other.returncode, *output), (0, "", ""))

    steps, losses, held_out = self.read("resumed")
    single, single_held_out = self.read("alone")
    self.assertEqual(self.read("stopped"), 10)
    self.assertEqual(steps, [20, 30, 40, 50])
    np.testing.assert_allclose(losses, single, rtol=1e-5)
    # Devices along `model` also share the batch.
    np.testing.assert_allclose(self.read("model"), single, rtol=1e-5)
    np.testing.assert_allclose(held_out, single_held_out, rtol=1e-5)
    # Each process reads one half of every batch of a text.
    np.testing.assert_allclose(
      self.read("fed"), self.read("fed alone"), rtol=1e-5
    )
    for index, rows in enumerate((range(8), range(8, 16))):
      self.assertEqual(
        self.read(f"read by {index}"),
        [list(x) for x in itertools.product(range(50), range(2), rows)],
      )
    self.assertLess(np.max(single[-1]), 0.95 * np.min(single[0]))
    self._check_messages(self.read("messages"))

  def _check_messages(self, messages):
    """Checks the functions by which processes exchange values."""
    keys = jax.random.split(jax.random.key(3), 4)
    self.assertEqual(messages["devices"], [0, 1])
    self.assertEqual(messages["maximum"], 6)
    self.assertEqual(
      messages["random bits"], jax.vmap(jax.random.bits)(keys).tolist()
    )
    self.assertEqual(
      messages["numbers"], np.arange(12.0).reshape(2, 6).tolist()
    )
    self.assertEqual(messages["leader first"], "leader")
    # The leader's error is raised in the other process, too.
    self.assertIn("invalid literal", messages["error"])
    self.assertEqual(messages["errors"], 2)
    self.assertIn(
      "must use all 2 devices of all processes", messages["too few devices"]
    )
    self.assertEqual(
      messages["automatic"], [[1, 2, 1], [2, 1, 1], [1, 2, 1], [2, 1, 1]]
    )


class SingleProcessTest(base.TestCase):
  def test_a_single_process(self):
    """Before `join`, all functions work without other processes."""
    self.assertFalse(multihost.joined())
    self.assertTrue(multihost.is_leader())
    self.assertEqual(multihost.devices(), jax.local_devices())
    self.assertEqual(multihost.max_over_processes(3), 3)
    self.assertEqual(multihost.leader_first(lambda: 1, lambda: 2), 1)
    self.assertFalse(
      multihost.is_lost_process(ValueError("Gloo AllGather failed"))
    )


class PlaceTest(base.TestCase):
  def test_flag_form(self):
    """The form has coordinator, index and count, or is `auto`."""
    self.assertEqual(parse_place("auto"), Place())
    self.assertEqual(
      parse_place("node-1.local:1234,1/4"), Place("node-1.local:1234", 1, 4)
    )
    self.assertEqual(parse_place("[::1]:80,0/1"), Place("[::1]:80", 0, 1))

  @parameterized.parameters(
    *("", "automatic", "host,0/2", "host:1,0", "host:1,-1/2", "host:1,0/2,"),
    *("host:٣,0/2", "host:1,٠/2", "host:1,0/99999999999999999999"),
  )
  def test_bad_flag_forms_are_refused(self, text):
    """Any other text is an error."""
    with self.assertRaisesRegex(ValueError, "distributed must be auto or HOST"):
      parse_place(text)

  def test_an_index_out_of_range_is_refused(self):
    """Indices start at 0."""
    with self.assertRaisesRegex(ValueError, "must count .* process 2$"):
      parse_place("host:1,2/2")
    with self.assertRaisesRegex(ValueError, "at least 1 process, not 0$"):
      parse_place("host:1,0/0")

  def test_a_port_out_of_range_is_refused(self):
    """The runtime would not say so."""
    with self.assertRaisesRegex(ValueError, r"a port in 1\.\.65535, not 99999"):
      multihost.join(parse_place("localhost:99999,0/1"))

  def test_a_port_in_use_is_refused(self):
    """A second run on the machine needs another port."""
    with socket.create_server(("", 0)) as server:
      port = server.getsockname()[1]
      with self.assertRaisesRegex(ValueError, f"port {port}: .* in use"):
        multihost.join(Place(f"127.0.0.1:{port}", 0, 2))
    self.assertFalse(multihost.joined())


if __name__ == "__main__":
  absltest.main()
