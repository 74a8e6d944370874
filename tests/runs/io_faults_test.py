"""Faults of the file system: told from wrong paths, named, in one line."""

import errno
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from jaxlook.runs import io_faults
from tests.fixtures import base

_FULL = "Error writing \"x\": No space left [os_error_code='28'] [spec='{}']"


class IoFaultsTest(base.TestCase):
  @parameterized.parameters(
    (OSError(errno.ENOSPC, "full"), errno.ENOSPC, True),
    (PermissionError(errno.EACCES, "no"), errno.EACCES, True),
    (FileNotFoundError(errno.ENOENT, "none"), errno.ENOENT, False),
    (IsADirectoryError(errno.EISDIR, "a folder"), errno.EISDIR, False),
    (ValueError(_FULL), errno.ENOSPC, True),
    (ValueError("Expecting value"), None, False),
    (OSError("no number"), None, False),
    (None, None, False),
  )
  def test_what_is_a_fault(self, error, number, fault):
    """Of the machine, also where tensorstore reports it; not a wrong path."""
    self.assertEqual(io_faults.code(error), number)
    self.assertEqual(io_faults.is_fault(error), fault)

  def test_errors_get_the_path(self):
    """Whoever raises them; others pass."""
    for error, line in (
      (ValueError(_FULL), "a: No space left on device"),
      (OSError(errno.ENOSPC, "full", "b"), "a: full"),
    ):
      with self.assertRaises(OSError) as caught, io_faults.named("a"):
        raise error
      self.assertEqual(io_faults.line(caught.exception), line)
      self.assertIs(caught.exception.__cause__, error)
    with self.assertRaisesRegex(ValueError, "^another$"), io_faults.named("a"):
      raise ValueError("another")

  @parameterized.parameters(
    (OSError(errno.EIO, "broken", "a"), "a: broken"),
    (OSError(errno.EIO, "broken", "a", None, "b"), "b: broken"),
    (OSError(errno.EIO, "broken"), "broken"),
    (OSError("two\n lines"), "two lines"),
  )
  def test_line(self, error, line):
    """The path, if there is one, and the reason."""
    self.assertEqual(io_faults.line(error), line)

  def test_reading_names_the_file(self):
    """Python does so only where opening fails."""
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    (folder / "a").write_text("b")
    self.assertEqual(io_faults.read_bytes(folder / "a"), b"b")
    broken = OSError(errno.EIO, "broken")
    with (
      mock.patch.object(pathlib.Path, "read_bytes", side_effect=broken),
      self.assertRaises(OSError) as caught,
    ):
      io_faults.read_bytes(folder / "a")
    self.assertEqual(caught.exception.filename, str(folder / "a"))


if __name__ == "__main__":
  absltest.main()
