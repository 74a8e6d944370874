"""Arms are trained, evaluated and stored once, and read afterwards."""

import dataclasses
import json
import os
import shutil
import tempfile

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import parameterized

from jaxlook import models, parse_variant, runs
from jaxlook.errors import RunFolderError
from jaxlook.models import Decoder
from jaxlook.runs import checksums
from jaxlook.tasks.precache import Precache
from jaxlook.training import (
  MeshShape,
  Start,
  Stopped,
  TrainConfig,
  arms,
  baseline,
  evaluate,
  held_out_losses,
  read_arm,
  read_arms,
  run_arm,
  train,
)
from tests.fixtures import base
from tests.fixtures.precache_problem import TASK, problem

CAUSAL, MYOPIC = (
  parse_variant(name, layers=1, heads=2) for name in ("causal", "myopic/kv")
)


@dataclasses.dataclass(frozen=True)
class Broken(Precache):
  """The task with a loss that is infinite for every seed."""

  def loss(self, outputs, batch):
    return super().loss(outputs, batch) * jnp.inf


class ArmTest(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.store = self.enterContext(
      runs.open_store(f"{root}/run", {"experiment": "test"})
    )

  def test_a_finished_arm_is_read(self):
    """The second call returns the same arm without training."""
    first = run_arm(self.store, problem(), MYOPIC)
    reported = []
    again = run_arm(
      self.store,
      problem(),
      MYOPIC,
      report=lambda step, losses: reported.append(step),
      should_stop=lambda: True,
    )
    self.assertEqual(reported, [6])
    self.assertEqual(again.cells, first.cells)
    np.testing.assert_array_equal(again.losses, first.losses)
    np.testing.assert_array_equal(again.steps, [2, 4, 6])

  def test_cells_have_the_scores_of_every_seed(self):
    """There is one cell per seed, with scores of the held-out loss."""
    arm = run_arm(self.store, problem(setting="p=0.5"), CAUSAL)
    self.assertEqual([cell["seed"] for cell in arm.cells], [0, 3])
    for cell in arm.cells:
      self.assertEqual(cell["status"], "done")
      self.assertEqual(cell["setting"], "p=0.5")
      self.assertEqual(cell["metrics"]["double"], 2 * cell["metrics"]["loss"])
      self.assertBetween(cell["metrics"]["loss"], 0.01, 2.0)
    self.assertEqual(arm.losses.shape, (3, 2))
    self.assertNotEqual(arm.losses[0, 0], arm.losses[0, 1])

  @parameterized.parameters(
    {},
    {"optimizer": "muon", "schedule": "wsd"},
    {"optimizer": "lion", "decay_matrices_only": True},
    {"optimizer": "sgd"},
  )
  def test_a_stopped_arm_resumes_bit_identically(self, **changes):
    """An arm stopped between chunks ends like one that was not stopped."""
    train = dataclasses.replace(problem().train, **changes)
    whole, parts = (
      dataclasses.replace(problem(setting=setting), train=train)
      for setting in ("whole", "parts")
    )
    whole = run_arm(self.store, whole, CAUSAL)
    with self.assertRaisesRegex(Stopped, "after 2 steps"):
      run_arm(self.store, parts, CAUSAL, should_stop=lambda: True)
    arm = run_arm(self.store, parts, CAUSAL)
    np.testing.assert_array_equal(arm.losses, whole.losses)
    for cell, expected in zip(arm.cells, whole.cells, strict=True):
      self.assertEqual(cell["metrics"], expected["metrics"])

  def test_an_arm_with_damaged_checkpoints_resumes_bit_identically(self):
    """A flipped bit, and a copy under a later step: it goes on from before.

    Checkpoints of an earlier version have no checksums and are read.
    """
    every = dataclasses.replace(problem().train, checkpoint_every=2)
    whole = run_arm(
      self.store,
      dataclasses.replace(problem(setting="whole"), train=every),
      CAUSAL,
    )
    parts = dataclasses.replace(problem(setting="parts"), train=every)
    stops = iter((False, True))
    with self.assertRaisesRegex(Stopped, "after 4 steps"):
      run_arm(self.store, parts, CAUSAL, should_stop=lambda: next(stops))
    root = arms.begin_arm(self.store, parts, CAUSAL).root
    stopped = root.with_name("stopped")
    shutil.copytree(root, stopped)

    data = max(
      (path for path in (root / "checkpoints/4").rglob("*") if path.is_file()),
      key=lambda path: path.stat().st_size,
    )
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 16
    data.write_bytes(content)
    shutil.copytree(root / "checkpoints/2", root / "checkpoints/400")
    lines = []
    arm = run_arm(self.store, parts, CAUSAL, warn=lines.append)
    self._same(arm, whole)
    self.assertLen(lines, 2)
    self.assertCountEqual(
      os.listdir(root / "checkpoints"), ["6", "4.damaged", "400.damaged"]
    )

    shutil.rmtree(root)
    shutil.copytree(stopped, root)
    for sums in root.rglob("SHA256SUMS"):
      sums.unlink()
    self._same(run_arm(self.store, parts, CAUSAL, warn=self.fail), whole)

  def _same(self, arm, expected):
    """Two arms have the same losses and results to the last bit."""
    np.testing.assert_array_equal(arm.losses, expected.losses)
    self.assertEqual(
      [cell["metrics"] for cell in arm.cells],
      [cell["metrics"] for cell in expected.cells],
    )

  def test_a_damaged_arm_is_refused(self):
    """By name; neither its results nor its weights are read."""
    arm = run_arm(self.store, problem(), CAUSAL)
    saved = read_arm(arm.root)
    saved.params()
    folder = arm.root / "checkpoints"
    again = f"; to train this arm again, delete the folder {arm.root}$"
    checksums.write(folder / "6", "step 6 of another", [])
    with self.assertRaisesRegex(
      RunFolderError, f"^{folder}/6 was written by another run{again}"
    ):
      saved.params()
    os.rename(folder / "6", folder / "60")
    with self.assertRaisesRegex(
      RunFolderError, f"^{folder} has no checkpoint 6{again}"
    ):
      saved.params()
    result = arm.root / "result.json"
    result.write_text(json.dumps({"cells": arm.cells[:1]}))
    for message in ("result.json has changed", "SHA256SUMS is missing"):
      with self.assertRaisesRegex(RunFolderError, f"{message}.*{again}"):
        run_arm(self.store, problem(), CAUSAL)
      (arm.root / "SHA256SUMS").unlink(missing_ok=True)
    # Arms of an earlier version have neither checksums nor an identity.
    config = json.loads((arm.root / "config.json").read_bytes())
    del config["identity"]
    (arm.root / "config.json").write_text(json.dumps(config))
    with self.assertRaisesRegex(
      RunFolderError, rf"seeds \[0\], not of \[0, 3\]{again}"
    ):
      run_arm(self.store, problem(), CAUSAL)
    with self.assertRaisesRegex(RunFolderError, f"seeds .*{again}"):
      saved.cells()
    result.write_text(json.dumps({"cells": arm.cells}))
    pq.write_table(pa.table({"step": [1]}), arm.root / "metrics.parquet")
    with self.assertRaisesRegex(
      RunFolderError, f"no training curves of 2 seeds{again}"
    ):
      run_arm(self.store, problem(), CAUSAL)

  def test_diverged_seeds_are_marked(self):
    """A diverged seed's cell has the step of divergence, and no loss."""
    broken = Broken(**dataclasses.asdict(TASK))
    arm = run_arm(self.store, problem(broken), CAUSAL)
    for cell in arm.cells:
      self.assertEqual(cell["status"], "diverged")
      self.assertEqual(cell["metrics"], {"diverged_at": 0})

  def test_another_config_is_refused(self):
    """An arm with another training config in the store is an error."""
    run_arm(self.store, problem(), CAUSAL)
    longer = dataclasses.replace(
      problem(), train=TrainConfig(steps=8, batch_size=4)
    )
    with self.assertRaisesRegex(ValueError, "another config: train.steps is 6"):
      run_arm(self.store, longer, CAUSAL)

  @parameterized.parameters("causal", "teacher/residual")
  def test_seeds_are_added(self, name):
    """Seeds added twice end as if all were trained at once, to the last bit.

    The second time training is stopped. What was there is left as it is.
    """
    one_device = {"mesh": MeshShape()}
    variant = parse_variant(name, layers=1, heads=2)

    def run(setting, seeds, **options):
      asked = dataclasses.replace(problem(setting=setting), seeds=seeds)
      options |= one_device
      teacher = None
      if variant.needs_teacher:
        causal = run_arm(self.store, asked, CAUSAL, **one_device)
        teacher = read_arm(causal.root)
      return run_arm(self.store, asked, variant, teacher=teacher, **options)

    whole = run("whole", (0, 3, 4, 6))
    first = run("grown", (0, 3))
    before = {
      path: path.read_bytes()
      for path in first.root.rglob("*")
      if path.is_file()
    }
    run("grown", (0, 3, 4))
    with self.assertRaises(Stopped):
      run("grown", (0, 3, 4, 6), should_stop=lambda: True)
    self.assertEqual(read_arm(first.root).seeds, (0, 3, 4))
    grown = run("grown", (0, 3, 4, 6))
    self.assertEqual(grown.root, first.root)
    np.testing.assert_array_equal(grown.losses, whole.losses)
    self.assertEqual(
      [cell | {"setting": "whole"} for cell in grown.cells], whole.cells
    )
    for path, content in before.items():
      self.assertEqual(path.read_bytes(), content)
    saved, expected = read_arm(grown.root), read_arm(whole.root)
    self.assertEqual(saved.seeds, expected.seeds)
    self.assertEqual(saved.cells(), grown.cells)
    for step in (0, None):
      chex.assert_trees_all_equal(saved.params(step), expected.params(step))
    chex.assert_trees_all_equal(
      saved.params(seeds=(6, 3)),
      jax.tree.map(lambda x: x[np.array([3, 1])], expected.params()),
    )

  def test_a_longer_training(self):
    """Under wsd it goes on from before the decay, to the last bit.

    Seeds are added to the shorter one before, and it is left as it is.
    """
    one_device = {"mesh": MeshShape()}
    train = dataclasses.replace(
      problem().train, schedule="wsd", warmup_steps=2, decay_fraction=0.3
    )

    def run(setting, steps, seeds, **options):
      reported = []
      asked = dataclasses.replace(
        problem(setting=setting),
        seeds=seeds,
        train=dataclasses.replace(train, steps=steps),
      )
      arm = run_arm(
        self.store,
        asked,
        CAUSAL,
        report=lambda step, _: reported.append(step),
        **one_device | options,
      )
      return arm, reported

    whole, _ = run("whole", 20, (0, 3, 4))
    first, _ = run("grown", 6, (0, 3))
    run("grown", 6, (0, 3, 4))
    # The rate falls after 4 of 6 steps, and after 7 of 10.
    middle, reported = run("grown", 10, (0, 3, 4))
    self.assertEqual(reported, [4, 6, 8, 10] * 2)
    with self.assertRaises(Stopped):
      run("grown", 20, (0, 3, 4), should_stop=lambda: True)
    grown, reported = run("grown", 20, (0, 3, 4))
    self.assertEqual(reported[:3], [8, 10, 12])
    np.testing.assert_array_equal(grown.losses, whole.losses)
    np.testing.assert_array_equal(grown.steps, whole.steps)
    self.assertEqual(
      [cell | {"setting": "whole"} for cell in grown.cells], whole.cells
    )
    chex.assert_trees_all_equal(
      read_arm(grown.root).params(), read_arm(whole.root).params()
    )
    self.assertLen({first.root, middle.root, grown.root}, 3)
    self.assertEqual(read_arm(first.root).train.steps, 6)
    # Another arm has 10 steps at most: all are taken after as many.
    other = dataclasses.replace(
      problem(setting="other"),
      train=dataclasses.replace(train, steps=10),
    )
    run_arm(self.store, other, CAUSAL)
    shutil.rmtree(whole.root)
    self.assertEqual(
      {arm.setting: arm.train.steps for arm in read_arms(self.store.root)},
      {"grown": 10, "other": 10},
    )

  def test_a_longer_training_with_a_longer_teacher(self):
    """It starts anew, since its first steps read another teacher."""
    wsd = {"schedule": "wsd", "warmup_steps": 2, "decay_fraction": 0.3}
    taught = parse_variant("teacher/residual", layers=1, heads=2)

    def run(setting, steps):
      train = dataclasses.replace(problem().train, steps=steps, **wsd)
      asked = dataclasses.replace(problem(setting=setting), train=train)
      teacher = read_arm(run_arm(self.store, asked, CAUSAL).root)
      return run_arm(self.store, asked, taught, teacher=teacher)

    run("grown", 6)
    np.testing.assert_array_equal(run("grown", 12).losses, run("x", 12).losses)

  def test_seeds_that_another_run_has_begun(self):
    """No seed is trained twice, and each part is read for those who ask."""
    one, more = (
      dataclasses.replace(problem(), seeds=seeds)
      for seeds in ((0, 3), (0, 3, 4, 6))
    )
    (whole,) = arms.in_parts(self.store, more, CAUSAL)
    first = run_arm(self.store, one, CAUSAL)
    with self.assertRaisesRegex(ValueError, "another run has begun some of"):
      arms.begin_arm(self.store, whole, CAUSAL)
    run_arm(self.store, more, CAUSAL)
    self.assertEqual(first.saved().seeds, (0, 3))
    self.assertEqual(first.saved().cells(), first.cells)
    backwards = dataclasses.replace(more, seeds=(6, 4, 3, 0))
    arm = run_arm(self.store, backwards, CAUSAL)
    self.assertEqual(arm.saved().cells(), arm.cells)
    self.assertEqual(arm.saved().seeds, (6, 4, 3, 0))

  @parameterized.parameters(
    {"schedule": "cosine"}, {"warmup_steps": None}, {"learning_rate": 0.1}
  )
  def test_trainings_that_cannot_go_on(self, **changes):
    """Another schedule, warm-up or rate would not take the same first steps."""
    wsd = {"schedule": "wsd", "warmup_steps": 2, "warmup_fraction": 0.2}
    first, longer = (
      dataclasses.replace(
        problem(),
        train=dataclasses.replace(problem().train, **wsd | more),
      )
      for more in ({}, {"steps": 20} | changes)
    )
    arms.begin_arm(self.store, first, CAUSAL)
    with self.assertRaisesRegex(ValueError, "another config: train.steps is 6"):
      arms.begin_arm(self.store, longer, CAUSAL)

  def test_a_setting_that_had_no_name(self):
    """It is found under the name that it gets beside another setting."""
    first = run_arm(self.store, problem(), CAUSAL)
    named = dataclasses.replace(problem(setting="p=0.5"), seeds=(0, 3, 4))
    arm = run_arm(self.store, named, CAUSAL)
    self.assertEqual(arm.root, first.root)
    self.assertEqual({cell["setting"] for cell in arm.cells}, {"p=0.5"})
    self.assertEqual(
      [cell["metrics"] for cell in arm.cells[:2]],
      [cell["metrics"] for cell in first.cells],
    )
    other = problem(dataclasses.replace(TASK, p=0.7), setting="p=0.7")
    self.assertNotEqual(run_arm(self.store, other, CAUSAL).root, first.root)

  def test_seeds_added_to_another_training_are_refused(self):
    """As are fewer seeds than there are, and seeds that were not trained."""
    arm = run_arm(self.store, problem(), CAUSAL)
    more = dataclasses.replace(problem(), seeds=(0, 3, 5))
    longer = dataclasses.replace(
      more, train=dataclasses.replace(more.train, steps=8)
    )
    with self.assertRaisesRegex(ValueError, "another config: train.steps is 6"):
      run_arm(self.store, longer, CAUSAL)
    with self.assertRaisesRegex(
      ValueError, "run with more seeds: it has 0,3, not only 3; ask for all"
    ):
      run_arm(self.store, dataclasses.replace(more, seeds=(3,)), CAUSAL)
    with self.assertRaisesRegex(ValueError, r"^seeds must be of .*, not \[5\]"):
      read_arm(arm.root).params(seeds=(5,))
    self.assertCountEqual(
      [path.name for path in arm.root.iterdir() if path.is_dir()],
      ["checkpoints"],
    )

  def test_baseline_uses_the_held_out_batches(self):
    """Predicting zeros has the loss of a model whose outputs are zero."""
    shared = problem()
    decoder = Decoder(shared.model)
    zero_params = jax.tree.map(
      lambda x: jnp.zeros((1, *x.shape)),
      models.init(shared.model, jax.random.key(1)),
    )
    losses = evaluate(
      decoder, TASK, shared.train, zero_params, key=arms.held_out_key()
    )
    zero = baseline(shared, TASK.zero_loss)
    self.assertAlmostEqual(zero, float(losses.mean()), places=6)
    self.assertLess(baseline(shared, TASK.trivial_loss), zero)

  def test_all_seeds_start_from_given_weights(self):
    """Seed 3 starts from its own init and is unchanged; seed 0 changes."""
    plain = run_arm(self.store, problem(setting="plain"), CAUSAL)
    weights = jax.tree.map(lambda x: x[1], read_arm(plain.root).params(0))
    tuned = dataclasses.replace(
      problem(setting="tuned"), start=Start(weights, {"sha256": "a"})
    )
    with self.assertRaises(Stopped):
      run_arm(self.store, tuned, CAUSAL, should_stop=lambda: True)
    arm = run_arm(self.store, tuned, CAUSAL)
    np.testing.assert_array_equal(arm.losses[:, 1], plain.losses[:, 1])
    self.assertTrue((arm.losses[:, 0] != plain.losses[:, 0]).all())
    self.assertTrue((arm.losses[:, 0] != arm.losses[:, 1]).all())
    with self.assertRaisesRegex(ValueError, "^step must be above 0, .* pretr"):
      read_arm(arm.root).params(0)
    other = dataclasses.replace(tuned, start=Start(weights, {"sha256": "b"}))
    with self.assertRaisesRegex(ValueError, 'start.sha256 is "a" there'):
      run_arm(self.store, other, CAUSAL)

  def test_a_start_of_another_shape_is_refused(self):
    """The error comes before anything is compiled."""
    shared = problem()
    wide = dataclasses.replace(shared.model, width=16)
    start = models.init(wide, jax.random.key(0))
    with self.assertRaisesRegex(AssertionError, "shape"):
      train(shared.decoder(CAUSAL), TASK, shared.train, (0,), start=start)

  def test_held_out_losses_equal_the_cells(self):
    """On the same held-out data, `held_out_losses` gives the cells' losses."""
    arm = run_arm(self.store, problem(), CAUSAL)
    losses = held_out_losses(read_arm(arm.root), problem())
    self.assertEqual(losses, [cell["metrics"]["loss"] for cell in arm.cells])
