"""Pointers of Git LFS in the place of files."""

import pathlib
import tempfile

from jaxlook import git_lfs
from tests.fixtures import base
from tests.fixtures.checkpoints import LFS_POINTER


class GitLfsTest(base.TestCase):
  def test_pointers(self):
    """A pointer is refused with what to do; other files and folders pass."""
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    file = folder / "weights"
    for content in (b"", b"version", b"\x00" * 99):
      file.write_bytes(content)
      git_lfs.check_fetched(file)
    git_lfs.check_fetched(folder)
    git_lfs.check_fetched(folder / "nowhere")
    file.write_bytes(LFS_POINTER)
    with self.assertRaisesRegex(ValueError, "weights is a Git LFS .*lfs pull"):
      git_lfs.check_fetched(file)
