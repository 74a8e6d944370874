"""Processes that train together: the same numbers, and none waits for ever."""

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

# Far more than it takes: the machine may be busy.
_SECONDS = 300


@pytest.mark.multiprocess
class TogetherTest(base.TestCase):
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
      # Killed first, then waited for and its pipes closed.
      self.addCleanup(process.__exit__, None, None, None)
      self.addCleanup(process.kill)
      started.append(process)
    return started

  def found(self, name: str):
    """What the processes wrote."""
    return json.loads((self.out / name).read_text())

  def test_the_same_numbers(self):
    """Two processes train as one does, under each split; a killed run goes on.

    50 steps in float32. Killing a process ends the other with one line.
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
    self.assertEqual((left.returncode, errors), (1, f"{multiprocess.GONE}\n"))
    self.assertEqual(killed.communicate(timeout=_SECONDS)[1], "")

    leader, other = self.start()
    _, errors = leader.communicate(timeout=_SECONDS)
    self.assertEqual((leader.returncode, errors), (0, ""))
    said = other.communicate(timeout=_SECONDS)
    self.assertEqual((other.returncode, *said), (0, "", ""))

    seen, losses, held_out = self.found("resumed")
    alone, alone_held_out = self.found("alone")
    self.assertEqual(self.found("stopped"), 10)
    self.assertEqual(seen, [20, 30, 40, 50])
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    # Devices along `model` share the batch, too.
    np.testing.assert_allclose(self.found("model"), alone, rtol=1e-5)
    np.testing.assert_allclose(held_out, alone_held_out, rtol=1e-5)
    # Of a text each reads one half of every batch.
    np.testing.assert_allclose(
      self.found("fed"), self.found("fed alone"), rtol=1e-5
    )
    for index, rows in enumerate((range(8), range(8, 16))):
      self.assertEqual(
        self.found(f"read by {index}"),
        [list(x) for x in itertools.product(range(50), range(2), rows)],
      )
    self.assertLess(np.max(alone[-1]), 0.95 * np.min(alone[0]))
    self._check_talk(self.found("talk"))

  def _check_talk(self, talk):
    """What processes tell each other, beside their training."""
    keys = jax.random.split(jax.random.key(3), 4)
    self.assertEqual(talk["devices"], [0, 1])
    self.assertEqual(talk["most"], 6)
    self.assertEqual(talk["drawn"], jax.vmap(jax.random.bits)(keys).tolist())
    self.assertEqual(talk["numbers"], np.arange(12.0).reshape(2, 6).tolist())
    self.assertEqual(talk["led"], "leads")
    # The other process, which refuses nothing itself, is refused the same.
    self.assertIn("invalid literal", talk["refused"])
    self.assertEqual(talk["refusals"], 2)
    self.assertIn("must use all 2 devices of all processes", talk["left over"])
    self.assertEqual(
      talk["automatic"], [[1, 2, 1], [2, 1, 1], [1, 2, 1], [2, 1, 1]]
    )


class AloneTest(base.TestCase):
  def test_one_process_is_alone(self):
    """Without joining, nothing is asked of others."""
    self.assertFalse(multihost.joined())
    self.assertTrue(multihost.leads())
    self.assertEqual(multihost.devices(), jax.local_devices())
    self.assertEqual(multihost.max_over_processes(3), 3)
    self.assertEqual(multihost.leader_first(lambda: 1, lambda: 2), 1)
    self.assertFalse(multihost.lost(ValueError("Gloo AllGather failed")))


class PlaceTest(base.TestCase):
  def test_flag_form(self):
    """A coordinator with index and count, or what is detected."""
    self.assertEqual(parse_place("auto"), Place())
    self.assertEqual(
      parse_place("node-1.local:1234,1/4"), Place("node-1.local:1234", 1, 4)
    )
    self.assertEqual(parse_place("[::1]:80,0/1"), Place("[::1]:80", 0, 1))

  @parameterized.parameters(
    *("", "automatic", "host,0/2", "host:1,0", "host:1,-1/2", "host:1,0/2,"),
  )
  def test_no_place(self, text):
    """Anything else is refused."""
    with self.assertRaisesRegex(ValueError, "distributed must be auto or HOST"):
      parse_place(text)

  def test_no_such_process(self):
    """Processes count from 0."""
    with self.assertRaisesRegex(ValueError, "must count .* process 2$"):
      parse_place("host:1,2/2")

  def test_port_is_taken(self):
    """Two runs on one machine need two ports."""
    with socket.create_server(("", 0)) as server:
      port = server.getsockname()[1]
      with self.assertRaisesRegex(ValueError, f"port {port}: .* in use"):
        multihost.join(Place(f"127.0.0.1:{port}", 0, 2))
    self.assertFalse(multihost.joined())


if __name__ == "__main__":
  absltest.main()
