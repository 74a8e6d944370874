"""Checksums: what sha256sum would check, and what the folder holds."""

import subprocess
import tempfile
from pathlib import Path

from absl.testing import absltest

from jaxlook.errors import DamagedError
from jaxlook.runs import checksums
from tests.fixtures import base


class ChecksumsTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    (self.folder / "deep").mkdir()
    (self.folder / "deep" / "a b").write_text("one")
    checksums.write(self.folder, "a test", ["deep/a b"], {"late": b"two"})
    (self.folder / "late").write_text("two")

  def test_whole(self):
    """The list is right, also to `sha256sum`; other files do not matter."""
    self.assertEqual(checksums.check(self.folder), "a test")
    (self.folder / "other").touch()
    self.assertEqual(checksums.check(self.folder), "a test")
    done = subprocess.run(
      ["sha256sum", "-c", "SHA256SUMS"],
      cwd=self.folder,
      capture_output=True,
      text=True,
    )
    self.assertEqual(done.stdout, "deep/a b: OK\nlate: OK\n")
    self.assertEqual(done.returncode, 0)

  def test_none(self):
    """A folder of an earlier version has no list."""
    self.assertIsNone(checksums.check(self.folder / "deep"))
    self.assertIsNone(checksums.check(self.folder / "late"))
    self.assertIsNone(checksums.check(self.folder / "nowhere"))

  def test_changed_files(self):
    """The first file that differs is named."""
    (self.folder / "late").write_text("2")
    with self.assertRaisesRegex(
      DamagedError, f"^{self.folder}/late has changed"
    ):
      checksums.check(self.folder)
    (self.folder / "late").unlink()
    with self.assertRaisesRegex(DamagedError, "/late is missing$"):
      checksums.check(self.folder)
    (self.folder / "late").mkdir()
    with self.assertRaisesRegex(DamagedError, "/late is a folder, not a file$"):
      checksums.check(self.folder)

  def test_a_changed_list(self):
    """Wherever one of its bits flips, and wherever it is cut."""
    path = self.folder / "SHA256SUMS"
    data = path.read_bytes()
    flipped = [
      data[:at] + bytes([byte ^ 1]) + data[at + 1 :]
      for at, byte in enumerate(data)
    ]
    for changed in (*flipped, *(data[:at] for at in range(len(data)))):
      path.write_bytes(changed)
      with self.assertRaisesRegex(DamagedError, "SHA256SUMS has changed"):
        checksums.check(self.folder)


if __name__ == "__main__":
  absltest.main()
