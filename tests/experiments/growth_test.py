"""A run grows by later commands on the same folder."""

import pathlib
import tempfile

import chex

from experiments import path_star, precache
from jaxlook.training import read_arm
from tests.fixtures import binaries

SMALL = {"attention": ["myopic/kv"], "seeds": 2}


class GrowthTest(binaries.RefusalTestCase):
  def grow(self, **flags):
    """Runs the binary on the folder; returns the losses by arm and seed."""
    found, report = self.run_here(precache, **flags)
    losses = {
      (cell.get("setting", ""), cell["variant"], cell["seed"]): (
        cell["metrics"]["loss"]
      )
      for cell in found["cells"]
    }
    return losses, report

  def test_seeds_variants_and_settings(self):
    """Each is added, and nothing that is there is trained again.

    In the end the folder holds what one run of everything would have.
    """
    first, _ = self.grow(**SMALL)
    written = self._times()
    more, report = self.grow(seeds=4)
    self.assertEqual(more, more | first)
    self.assertRegex(report, r"\| causal \| .* \| 4 \| none \|")
    every = {"attention": ["horizon:2"], "p": ["0.7"]}
    last, _ = self.grow(**every)
    for (_, variant, seed), loss in more.items():
      self.assertEqual(last["p=0.5", variant, seed], loss)
    self.assertEqual(self._times(), self._times() | written)

    grown = self.root / "run"
    self.enterContext(self._elsewhere())
    whole, _ = self.grow(
      attention=["myopic/kv", "horizon:2"], seeds=4, p=["0.5", "0.7"]
    )
    self.assertEqual(whole, last)
    chex.assert_trees_all_equal(
      read_arm(grown / "arms/myopic+kv").params(),
      read_arm(self.root / "run/arms/p=0.5~myopic+kv").params(),
    )

  def test_what_is_there_is_kept(self):
    """Fewer seeds and other shapes are refused; no flags mean no change."""
    first, _ = self.grow(**SMALL)
    again, _ = self.grow()
    self.assertEqual(again, first)
    written = self._times()
    self.assert_refused("seeds", seeds=1)
    self.assert_refused("out: .*another config: width is 8", width=16)
    self.assert_refused("out: .*another config: seed_offset", seed_offset=1)
    self.assertEqual(self._times(), written)

  def test_a_folder_of_another_experiment(self):
    """It adds nothing to a run, and is refused as before."""
    self.grow(**SMALL)
    with self.assertRaisesRegex(Exception, "experiment is .precache. there"):
      self.run_here(path_star)

  def assert_refused(self, message, **flags):
    """Runs the binary, which must refuse the flags in one line."""
    with self.assertRaisesRegex(Exception, f"^--{message}"):
      self.grow(**flags)

  def _times(self):
    """When each file of an arm was written."""
    return {
      path: path.stat().st_mtime_ns
      for path in (self.root / "run" / "arms").rglob("*")
      if path.is_file()
    }

  def _elsewhere(self):
    """Goes on in another folder."""
    folder = tempfile.TemporaryDirectory()
    self.root = pathlib.Path(folder.name)
    return folder
