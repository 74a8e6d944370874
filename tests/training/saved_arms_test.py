"""Finished arms are read back from their folders."""

import json
import pathlib
import tempfile

from absl.testing import parameterized

from jaxlook import parse_variant, runs
from jaxlook.models import Decoder
from jaxlook.training import Stopped, read_arm, run_arm
from tests.fixtures import base
from tests.fixtures.precache_problem import problem

VARIANT = parse_variant("myopic+horizon:1/residual", layers=1, heads=2)


class SavedArmsTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def run_arm(self, **options):
    """Trains a tiny arm, and returns its folder."""
    with runs.open_store(self.root / "run", {"experiment": "test"}) as store:
      return run_arm(store, problem(), VARIANT, **options).root

  def test_an_arm_is_read_back(self):
    """The saved arm has the variant and the problem's fields."""
    saved, expected = read_arm(self.run_arm()), problem()
    self.assertEqual(saved.attention, VARIANT)
    self.assertEqual(saved.variant, "myopic/kv+horizon:1/residual")
    self.assertEqual(saved.decoder, Decoder(expected.model, VARIANT))
    self.assertEqual(saved.train, expected.train)
    self.assertEqual(saved.seeds, expected.seeds)
    self.assertEqual(saved.about, expected.about)

  @parameterized.parameters(
    ({"variant": "sideways"}, "version: attention 'sideways' is unknown"),
    ({"variant": "causal,myopic"}, "version: .* gives 2 layers"),
    ({"train": {"keep_steps": [], "pace": 3}}, "is of another version: .*pace"),
  )
  def test_arms_of_another_version_are_refused(self, change, message):
    """Unknown variants and settings are errors."""
    root = self.run_arm()
    # Arms of earlier versions have neither checksums nor an identity.
    (root / "SHA256SUMS").unlink()
    file = root / "config.json"
    config = json.loads(file.read_text()) | change
    del config["identity"]
    file.write_text(json.dumps(config))
    with self.assertRaisesRegex(ValueError, message):
      read_arm(root)

  def test_unfinished_arms_are_refused(self):
    """A stopped arm and a missing folder are errors."""
    with self.assertRaises(Stopped):
      self.run_arm(should_stop=lambda: True)
    for root in (*(self.root / "run" / "arms").iterdir(), self.root / "none"):
      with self.assertRaisesRegex(ValueError, "no finished arm"):
        read_arm(root)
