"""Settings of run configs, and whether seeds of two runs are pairs."""

import pathlib
import tempfile

from absl.testing import parameterized

from jaxlook.runs import inventory, run_settings
from tests.fixtures import base, run_folders


class SettingsTest(base.TestCase):
  def test_what_is_off_is_left_out(self):
    """Nested settings have dotted names; plain lists stay whole."""
    config = {
      "p": [0.5, 1.0],
      "train": {"steps": 4, "clip_norm": None, "remat": False, "keep": []},
      "languages": [{"pairs": 5, "late": False}, {"pairs": 3}],
      "seed_offset": 0,
    }
    self.assertEqual(
      run_settings.flattened(config),
      {
        "p": [0.5, 1.0],
        "train.steps": 4,
        "languages.0.pairs": 5,
        "languages.1.pairs": 3,
      },
    )

  def test_changed_settings(self):
    """A setting that an older config lacks is no change if it was so then."""
    old = {"p": 0.5, "train": {"steps": 4, "remat": False}}
    new = {
      "p": 0.5,
      "train": {"steps": 8, "optimizer": "adamw", "schedule": "wsd"},
    }
    self.assertEqual(
      run_settings.changed_settings([old, new, old]),
      {
        "train.steps": [4, 8, 4],
        "train.schedule": [None, "wsd", None],
      },
    )
    self.assertEmpty(run_settings.changed_settings([old, old]))


class PairingTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def made(self, name, config=None, **values):
    """A run with one arm, and its training."""
    run = run_folders.run(self.root / name, config)
    run_folders.training(
      run / "arms/causal", "causal", (0, 1), losses=(1.0, 2.0), **values
    )
    found = inventory.read_run(run)
    return found, found.trainings[0]

  @parameterized.parameters(
    ({}, []),
    ({"steps": 800}, []),
    ({"model": {"width": 16}}, ["model.width"]),
  )
  def test_trainings(self, values, faults):
    """The model decides the initial weights; steps do not matter."""
    a, b = self.made("a"), self.made("b", {"other": 1}, **values)
    self.assertEqual(run_settings.pairing_faults(a, b), faults)

  def test_published_results(self):
    """Without arms, the configs of the runs are compared."""
    found = []
    for name, changed in (("a", {}), ("b", {"seeds": 4}), ("c", {"p": [1.0]})):
      run = run_folders.run(self.root / name, run_folders.CONFIG | changed)
      run_folders.report(run)
      read = inventory.read_run(run)
      found.append((read, read.trainings[0]))
    a, b, c = found
    self.assertEmpty(run_settings.pairing_faults(a, b))
    self.assertEqual(run_settings.pairing_faults(a, c), ["p"])
