"""What run folders hold, on fabricated folders."""

import json
import os
import pathlib
import tempfile

from absl.testing import parameterized

from jaxlook.errors import RunFolderError
from jaxlook.runs import checksums, inventory
from tests.fixtures import base, run_folders


class InventoryTestCase(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.root = pathlib.Path(root)


class ReadTest(InventoryTestCase):
  def test_trainings_in_folders_of_an_arm(self):
    """More seeds and steps lie in folders within an arm's."""
    run = run_folders.run(self.root / "run")
    arm = run / "arms/myopic+kv"
    run_folders.training(arm, "myopic/kv", (0, 1), losses=(2.0, 3.0))
    run_folders.training(
      arm / "seeds~2-3", "myopic/kv", (2, 3), losses=(4.0, None)
    )
    run_folders.training(
      arm / "steps~800,seeds~4-7", "myopic/kv", (4, 5), steps=800
    )
    # Folders within checkpoints are never trainings.
    (arm / "checkpoints/400/item").mkdir(parents=True)
    (arm / "checkpoints/400/config.json").write_text("{}")
    found = inventory.read_run(run)
    first, second, third = found.trainings
    self.assertEqual((first.arm, first.seeds), (("", "myopic/kv"), (0, 1)))
    self.assertEqual((first.losses, first.done), ({0: 2.0, 1: 3.0}, 400))
    self.assertEqual((second.losses, second.diverged), ({2: 4.0}, (3,)))
    self.assertEqual((third.steps, third.done, third.finished), (800, 0, False))
    self.assertEqual(
      (found.seeds, found.steps), ((0, 1, 2, 3, 4, 5), (400, 800))
    )
    self.assertEqual((len(found.arms), found.finished_arms), (1, 0))
    self.assertEmpty(found.problems)

  def test_the_newest_checkpoint_says_how_far(self):
    """Folders that are not steps are unfinished or set aside."""
    run = run_folders.run(self.root)
    arm = run_folders.training(run / "arms/causal", "causal", (0, 1))
    for name in ("50", "200", "250.orbax-checkpoint-tmp", "300.damaged"):
      (arm / "checkpoints" / name).mkdir(parents=True)
      (arm / "checkpoints" / name / "data").write_bytes(b"12345")
    found = inventory.read_run(run)
    (training,) = found.trainings
    self.assertEqual((training.done, training.checkpoints), (200, 2))
    self.assertFalse(training.finished)
    self.assertEqual(inventory.checkpoint_bytes(found), 20)

  def test_report(self):
    """It is of the config of now, or of another one, or there is none."""
    run = run_folders.run(self.root)
    self.assertIsNone(inventory.read_run(run).result)
    run_folders.report(run)
    found = inventory.read_run(run)
    self.assertTrue(found.reported)
    self.assertEqual((found.experiment, found.preset), ("precache", "cpu"))
    (run / "config.json").write_text(
      json.dumps(run_folders.CONFIG | {"seeds": 8})
    )
    found = inventory.read_run(run)
    self.assertFalse(found.reported)
    self.assertIsNotNone(found.result)

  def test_published_results_have_no_arms(self):
    """Then the report says what was trained; baselines were not."""
    run = run_folders.run(self.root)
    run_folders.report(run)
    found = inventory.read_run(run)
    self.assertEqual([each.arm for each in found.trainings], [("", "causal")])
    self.assertEqual(found.trainings[0].losses, {0: 1.0, 1: 1.5})
    self.assertEqual(found.steps, (400,))

  def test_arms_of_another_library(self):
    """A store takes any config and any result of an arm."""
    run = run_folders.run(self.root, {"mine": [1]})
    (run / "arms/x").mkdir(parents=True)
    (run / "arms/x/config.json").write_text('{"train": 3, "seeds": "all"}')
    (run / "arms/x/result.json").write_text('{"cells": [1, {"seed": 0}]}')
    found = inventory.read_run(run)
    self.assertEqual((found.experiment, found.seeds), ("", ()))
    self.assertEqual(found.trainings[0].variant, "x")
    self.assertTrue(found.trainings[0].finished)
    self.assertEmpty(found.trainings[0].losses)

  @parameterized.parameters(
    ("result.json", "{", "result.json does not hold JSON: "),
    ("result.json", "{}", "result.json is damaged: result.experiment: is miss"),
    ("arms/causal/config.json", "3", "config.json does not hold a JSON object"),
    ("arms/causal/config.json", None, "arms/causal/config.json is missing"),
    ("arms/causal/result.json", "{", "result.json has changed since it was"),
  )
  def test_damage_is_told_and_the_rest_is_read(self, file, content, message):
    """One line, with the file's path."""
    run = run_folders.run(self.root)
    run_folders.report(run)
    for variant in ("causal", "self_only"):
      arm = run / "arms" / variant
      run_folders.training(arm, variant, (0, 1), losses=(2.0, 3.0))
      checksums.write(arm, "an arm", ("config.json", "result.json"))
    if content is None:
      (run / file).unlink()
    else:
      (run / file).write_text(content)
    found = inventory.read_run(run)
    self.assertLen(found.problems, 1)
    self.assertIn(message, found.problems[0])
    self.assertStartsWith(found.problems[0], str(run))
    self.assertEqual(found.trainings[1].losses, {0: 2.0, 1: 3.0})

  def test_what_is_no_run_folder(self):
    """Each is refused in one line that says what it is."""
    run = run_folders.run(self.root / "run")
    arm = run_folders.training(run / "arms/causal", "causal", (0, 1))
    empty = self.root / "empty"
    empty.mkdir()
    broken = run_folders.run(self.root / "broken")
    (broken / "config.json").write_text("[]")
    for folder, message in (
      (self.root / "none", "is not there"),
      (run / "config.json", "is not a folder"),
      (empty, "is not a run folder: it has no config.json"),
      (arm, f"is a part of the run folder {run}"),
      (run / "arms", f"is a part of the run folder {run}"),
      (broken, "does not hold a JSON object"),
    ):
      with self.assertRaisesRegex(RunFolderError, message):
        inventory.read_run(folder)


class FindTest(InventoryTestCase):
  def test_three_levels(self):
    """In the order of names; not deeper, not hidden, not within a run."""
    for name in ("a", "b/c/d", "b/a", "e/f/g/h", ".hidden", "a/inner"):
      run_folders.run(self.root / name)
    # The folder of a model is not a run's.
    (self.root / "gpt2").mkdir()
    (self.root / "gpt2/config.json").write_text("{}")
    found = [
      str(path.relative_to(self.root))
      for path in inventory.find_runs(self.root)
    ]
    self.assertEqual(found, ["a", "b/a", "b/c/d"])
    self.assertEqual(
      list(inventory.find_runs(self.root / "a")), [self.root / "a"]
    )

  def test_a_run_without_its_config_is_found(self):
    """It is damaged, and not another folder."""
    run = run_folders.run(self.root / "run")
    run_folders.training(run / "arms/causal", "causal", (0, 1))
    (run / "config.json").unlink()
    self.assertEqual(list(inventory.find_runs(self.root)), [run])
    with self.assertRaisesRegex(RunFolderError, "config.json is missing"):
      inventory.read_run(run)


class DiskUseTest(InventoryTestCase):
  def test_bytes_and_last_change(self):
    """Of all files below; nothing of a folder that is not there."""
    (self.root / "a/b").mkdir(parents=True)
    for name, time in (("a/x", 100), ("a/b/y", 300), ("z", 200)):
      (self.root / name).write_bytes(b"1234")
      os.utime(self.root / name, (time, time))
    self.assertEqual(inventory.disk_use(self.root), (12, 300.0))
    self.assertEqual(inventory.disk_use(self.root / "none"), (0, 0.0))
