"""Weights to start from, and the hash that identifies them."""

import pathlib
import shutil
import tempfile

from jaxlook.models import huggingface
from jaxlook.training import start_from
from tests.fixtures import base, checkpoints


class StartTest(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.root = pathlib.Path(root)

  def _saved(self, name, seed, **settings):
    params = checkpoints.random_params(checkpoints.GPT2, seed)
    huggingface.save(self.root / name, checkpoints.GPT2, params, **settings)
    return self.root / name

  def test_weights_and_their_hash(self):
    """The hash depends only on the weights, not on path or other files."""
    first = self._saved("first", 0)
    loaded, start = start_from(first)
    self.assertEqual(loaded.config, checkpoints.GPT2)
    self.assert_close(start.params, huggingface.load(first).params, atol=0.0)
    copied = pathlib.Path(shutil.copytree(first, self.root / "copied"))
    (copied / "README.md").write_text("elsewhere")
    self.assertEqual(start_from(copied)[1].about, start.about)
    self.assertNotEqual(start_from(self._saved("b", 1))[1].about, start.about)

  def test_files_include_all_shards(self):
    """All shards and their index are listed."""
    folder = self._saved("sharded", 0, max_shard_bytes=2000)
    shards = sorted(folder.glob("*.safetensors"))
    self.assertGreater(len(shards), 1)
    self.assertCountEqual(
      huggingface.files(folder),
      [
        folder / "config.json",
        folder / "model.safetensors.index.json",
        *shards,
      ],
    )

  def test_a_missing_folder_is_refused(self):
    """The error is that of `huggingface.load`."""
    with self.assertRaisesRegex(ValueError, "is not a folder"):
      start_from(self.root / "nowhere")
