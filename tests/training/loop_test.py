"""The training loop: devices, resumption, data from the host, evaluation."""

import dataclasses
import functools
import pathlib
import tempfile
from unittest import mock

import chex
import jax
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.models import Decoder
from jaxlook.training import MeshShape, Stopped, evaluate, loop, step, train
from tests.fixtures import base, seed_training

DECODER = Decoder(seed_training.MODEL)
# Chunks of 3, 3, 3 and 2 steps; a checkpoint after the second and the last.
CONFIG = dataclasses.replace(
  seed_training.CONFIG,
  steps=11,
  log_every=3,
  checkpoint_every=4,
  eval_batches=3,
)
SEEDS = (3, 1, 4, 5)


class Feed:
  """Shifts the targets by seed and step, and breaks seed 1 at step 4."""

  def __init__(self):
    self.read = []

  def __call__(self, steps, seeds, rows):
    read = (steps.start, steps.stop)
    # Each device reads only its own seeds.
    if read not in self.read:
      self.read.append(read)
    fed = np.zeros((len(steps), len(SEEDS), len(rows), 2), np.float32)
    for k, at in enumerate(steps):
      fed[k, :, :, 0] = np.sin(at + np.arange(len(SEEDS)))[:, None]
      if at == 4:
        fed[k, 1] = seed_training.INFINITE_GRADIENT
    return fed[:, [SEEDS.index(seed) for seed in seeds]]


def _train(stop_at=None, seeds=SEEDS, **arguments):
  """Trains; returns the outcome, the chunks read, reports and traces."""
  feed, reports = Feed(), []

  def report(at, losses):
    reports.append((at, losses.copy()))

  def should_stop():
    # The next chunk was read already.
    return feed.read[-1][0] == stop_at

  with mock.patch.object(
    step, "train_chunk", wraps=step.train_chunk
  ) as train_chunk:
    try:
      outcome = train(
        DECODER,
        seed_training.TASK,
        CONFIG,
        seeds,
        feed=feed,
        report=report,
        should_stop=should_stop,
        **arguments,
      )
    except Stopped as e:
      outcome = e
  return outcome, feed.read, reports, train_chunk.call_count


@functools.cache
def _uninterrupted():
  return _train()


class TrainTest(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(root) / "checkpoints"

  def assert_same(self, trained):
    """Checks that the result is bit-identical to an uninterrupted run."""
    chex.assert_trees_all_equal(trained, _uninterrupted()[0])

  def test_rows(self):
    """There is a row per chunk, the last one short; a diverged seed has NaN."""
    trained, read, reports, _ = _uninterrupted()
    np.testing.assert_array_equal(trained.steps, [3, 6, 9, 11])
    np.testing.assert_array_equal(trained.diverged_at, [-1, 4, -1, -1])
    diverged = np.zeros((4, 4), bool)
    diverged[1:, 1] = True
    np.testing.assert_array_equal(np.isnan(trained.losses), diverged)
    self.assertEqual([at for at, _ in reports], [3, 6, 9, 11])
    np.testing.assert_array_equal(
      np.stack([losses for _, losses in reports]), trained.losses
    )
    self.assertEqual(read, [(0, 3), (3, 6), (6, 9), (9, 11)])
    chex.assert_tree_all_finite(trained.params)

  def test_each_chunk_length_is_traced_once(self):
    """There are two traces: for full chunks and for the short last one."""
    self.assertEqual(_uninterrupted()[3], 2)

  def test_two_devices(self):
    """Four seeds train on two devices as on one.

    Checkpoints are saved after chunks that reach a multiple of
    `checkpoint_every` steps, and after the last.
    """
    self.assertLen(jax.local_devices(), 2)
    trained, _, _, _ = _uninterrupted()
    for x in jax.tree.leaves(trained.params):
      self.assertLen(x.sharding.device_set, 2)
    with mock.patch.object(loop.Checkpoints, "save") as save:
      one_device, _, _, _ = _train(checkpoints=self.folder, mesh=MeshShape())
    self.assertEqual([call.args[0] for call in save.call_args_list], [6, 9, 11])
    for x in jax.tree.leaves(one_device.params):
      self.assertLen(x.sharding.device_set, 1)
    self.assert_close(
      jax.device_get(trained.params),
      jax.device_get(one_device.params),
      atol=seed_training.ROUNDING,
    )
    np.testing.assert_allclose(trained.losses, one_device.losses, rtol=1e-5)
    np.testing.assert_array_equal(trained.diverged_at, one_device.diverged_at)

  def test_a_seed_does_not_depend_on_the_others(self):
    """Some seeds alone end as they end beside others, to the last bit."""
    some = (1, 3)
    alone, _, _, _ = _train(seeds=[SEEDS[place] for place in some])
    together, _, _, _ = _uninterrupted()
    chex.assert_trees_all_equal(
      (alone.params, alone.losses.T, alone.diverged_at),
      jax.tree.map(
        lambda x: np.asarray(x)[np.array(some)],
        (together.params, together.losses.T, together.diverged_at),
      ),
    )

  def test_a_stopped_run_resumes(self):
    """A run that was stopped twice ends bit-identical.

    The data of a step is read once per run, and again only if its chunk was
    read but not trained.
    """
    run = functools.partial(_train, checkpoints=self.folder)
    uninterrupted = _uninterrupted()[2]
    stopped, read, reports, _ = run(stop_at=3)
    self.assertIsInstance(stopped, Stopped)
    self.assertEqual((stopped.step, str(stopped)), (3, "stopped after 3 steps"))
    self.assertEqual(read, [(0, 3), (3, 6)])
    chex.assert_trees_all_equal(reports, uninterrupted[:1])

    stopped, read, reports, _ = run(stop_at=9)
    self.assertIsInstance(stopped, Stopped)
    self.assertEqual(read, [(3, 6), (6, 9), (9, 11)])
    chex.assert_trees_all_equal(reports, uninterrupted[:3])

    trained, read, reports, traces = run()
    self.assert_same(trained)
    self.assertEqual((read, traces), ([(9, 11)], 1))
    chex.assert_trees_all_equal(reports, uninterrupted[2:])

    # A finished run is restored: nothing is read, compiled or trained.
    trained, read, reports, traces = run()
    self.assert_same(trained)
    self.assertEqual((read, traces), ([], 0))
    chex.assert_trees_all_equal(reports, uninterrupted[3:])

  def test_a_generated_task(self):
    """A generated task reads no data; it cannot stop after the last chunk."""
    trained = train(
      DECODER,
      seed_training.TASK.task,
      seed_training.CONFIG,
      seed_training.SEEDS,
      should_stop=lambda: True,
    )
    np.testing.assert_array_equal(trained.steps, [6])
    np.testing.assert_array_equal(trained.diverged_at, [-1] * 3)
    # Three seeds cannot be shared by two devices.
    for x in jax.tree.leaves(trained.params):
      self.assertLen(x.sharding.device_set, 1)
    # Without divergence, the task with host data is the same task.
    states, losses = seed_training.calm_chunk(6)
    self.assert_close(
      jax.device_get(trained.params),
      jax.device_get(states.params),
      atol=seed_training.ROUNDING,
    )
    np.testing.assert_allclose(trained.losses[0], losses, rtol=1e-5)

  def test_a_checkpoint_of_another_run_is_refused(self):
    """A checkpoint with another number of chunks is an error."""
    checkpoints = loop.Checkpoints(self.folder)
    states = step.init_states(
      seed_training.MODEL, CONFIG, step.seed_keys(SEEDS).init
    )
    history = np.zeros((2, len(SEEDS)), np.float32)
    checkpoints.save(3, {"states": states, "history": history})
    checkpoints.close()
    with self.assertRaisesRegex(ValueError, r"history has shape \(2, 4\), not"):
      _train(checkpoints=self.folder)


class EvaluateTest(base.TestCase):
  @parameterized.parameters(None, 2)
  def test_definition(self, fed_batches):
    """It is the mean over batches and sequences, which all seeds share.

    The variant does not change the batches.
    """
    spec = "causal" if fed_batches is None else "self_only"
    decoder, key = Decoder(seed_training.MODEL, spec), jax.random.key(7)
    task, count, fed = seed_training.TASK.task, CONFIG.eval_batches, None
    if fed_batches is not None:
      task, count = seed_training.TASK, fed_batches
      fed = np.float32([[0.0, 0.0], [1.0, 0.0]])
    params = step.init_states(
      seed_training.MODEL, seed_training.CONFIG, step.seed_keys([3, 1, 3]).init
    ).params
    losses_by_seed = evaluate(decoder, task, CONFIG, params, key=key, fed=fed)
    chex.assert_shape(losses_by_seed, (3, 6))
    chex.assert_type(losses_by_seed, np.float32)
    batches = [
      task.batch(k, CONFIG.batch_size, None if fed is None else fed[n])
      for n, k in enumerate(jax.random.split(key, count))
    ]

    @jax.jit
    def loss(member, batch):
      return task.loss(decoder.apply({"params": member}, batch.inputs), batch)

    for e in range(2):
      member = jax.tree.map(lambda x, e=e: x[e], params)
      losses = [loss(member, batch) for batch in batches]
      np.testing.assert_allclose(
        losses_by_seed[e], np.concatenate(losses).mean(axis=0), rtol=1e-5
      )
    np.testing.assert_array_equal(losses_by_seed[2], losses_by_seed[0])
    self.assertGreater(
      np.abs(losses_by_seed[1] - losses_by_seed[0]).min(), 1e-4
    )


if __name__ == "__main__":
  absltest.main()
