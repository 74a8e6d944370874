"""Checkpoints that do not fit are refused before training."""

import dataclasses
import pathlib
import shutil
import tempfile
from unittest import mock

from experiments.common import app, disk_space, faults
from jaxlook import parse_variant
from jaxlook.runs.store import open_store
from jaxlook.training import begin_arm, checkpoint_bytes
from tests.fixtures import base
from tests.fixtures.precache_problem import problem

VARIANT = parse_variant("causal", layers=1, heads=2)


class DiskSpaceTest(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.store = self.enterContext(open_store(f"{root}/run", {}))

  def check(self, checkpoints: float, todo, total=2**40):
    """Checks on a disk with room for so many checkpoints."""
    shared = todo[0]
    size = 0.9 * checkpoint_bytes(shared.model, shared.train, 2)
    usage = mock.Mock(free=checkpoints * size, total=total)
    with mock.patch.object(shutil, "disk_usage", return_value=usage):
      disk_space.check(self.store, [(each, VARIANT) for each in todo])

  def test_what_arms_keep_and_one_writes(self):
    """One for each arm and kept step; two more if an arm saves that often."""
    once, other = problem(setting="a"), problem(setting="b")
    self.check(2.1, [once, other])
    with self.assertRaisesRegex(
      app.UsageError,
      rf"^--out: {self.store.root}: No space left on device: the checkpoints of"
      r" this run take about \S+ GiB, and \S+ GiB are free$",
    ) as caught:
      self.check(1.9, [once, other])
    self.assertEqual(caught.exception.status, faults.FAILED)
    often = dataclasses.replace(
      once,
      train=dataclasses.replace(
        once.train, checkpoint_every=1, keep_steps=(2, 4)
      ),
    )
    self.check(5.1, [often])
    with self.assertRaises(app.UsageError):
      self.check(4.9, [often])

  def test_what_is_there_is_not_needed_again(self):
    """Finished arms need nothing, others what they do not have yet."""
    shared = problem()
    arm = begin_arm(self.store, shared, VARIANT)
    for step in (2, 4):
      pathlib.Path(arm.checkpoints / str(step)).mkdir(parents=True)
    (arm.checkpoints / "3.damaged").mkdir()
    self.check(0, [shared])
    shutil.rmtree(arm.checkpoints)
    with self.assertRaises(app.UsageError):
      self.check(0, [shared])
    (arm.root / "result.json").write_text("{}")
    self.check(0, [shared])

  def test_a_file_system_of_unknown_size(self):
    """It is believed to have space."""
    self.check(0, [problem()], total=0)
