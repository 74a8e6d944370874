"""What the machine can never hold."""

import pathlib
import tempfile
from unittest import mock

import jax

from jaxlook import machine
from jaxlook.errors import SettingError
from tests.fixtures import base

_GIB = 2**30


class MachineTest(base.TestCase):
  def test_memory_of_the_host(self):
    """That of the machine, or of the container if it has less."""
    file = (
      pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "max"
    )
    with mock.patch.object(machine, "_LIMITS", (file,)):
      whole = machine.host_bytes()
      self.assertGreater(whole, _GIB // 4)
      for text, expected in (("max\n", whole), ("1000\n", 1000)):
        file.write_text(text)
        self.assertEqual(machine.host_bytes(), expected)

  def test_memory_of_devices(self):
    """A CPU has the host's; of accelerators all count."""
    self.assertIsNone(machine.device_bytes())
    device = mock.Mock(memory_stats=lambda: {"bytes_limit": 10})
    with mock.patch.object(jax, "local_devices", lambda: [device, device]):
      self.assertEqual(machine.device_bytes(), 20)

  def test_only_what_never_fits_is_refused(self):
    """The message says how much it takes, and how much there is."""
    with mock.patch.object(machine, "host_bytes", lambda: 2 * _GIB):
      machine.check_fits("width", 2 * _GIB, "the training")
      machine.check_fits("width", 8 * _GIB, "the training", room=4)
      with self.assertRaises(SettingError) as caught:
        machine.check_fits("width", 3 * _GIB, "the training")
      self.assertEqual(
        str(caught.exception),
        "width is too large: the training takes at least 3 GiB of memory, and"
        " this machine has 2 GiB",
      )
      # Too large for a float.
      with self.assertRaisesRegex(SettingError, "at least 1e[+]12 GiB"):
        machine.check_fits("width", 10**400, "the training")
    with self.assertRaisesRegex(SettingError, "^seeds is too large"):
      machine.check_fits("seeds", 21, "the training", limit=20)
