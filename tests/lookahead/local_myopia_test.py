"""Local myopia: crossed evaluations and the training with a teacher."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlook import models
from jaxlook.lookahead import local_myopia
from jaxlook.lookahead.local_myopia import LOCAL, VANILLA
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.precache import Precache
from jaxlook.training import Teacher, TrainConfig, held_out_key, train
from tests.fixtures import base

TASK = Precache(p=0.5, terms=2, frequency=1.0, length=5)
MODEL = DecoderConfig(
  layers=2,
  width=8,
  heads=2,
  max_length=5,
  input_features=2,
  output_features=1,
)
CONFIG = TrainConfig(steps=4, batch_size=4, eval_batches=2, log_every=4)
SEEDS = (0, 3)


def _params(seed):
  keys = jax.random.split(jax.random.key(seed), len(SEEDS))
  grown = jax.vmap(lambda key: models.init(MODEL, key))(keys)
  # Larger than fresh weights, so that contexts matter.
  return jax.tree.map(lambda x: 4.0 * x, grown)


def _crossed(stop, vanilla, local):
  teacher = Teacher(vanilla, Decoder(MODEL))
  return local_myopia.cross_contexts(
    TASK,
    CONFIG,
    teacher,
    Teacher(local, Decoder(MODEL, f"teacher/{stop}"), teacher),
    key=held_out_key(),
  )


class CrossedTest(base.TestCase):
  @parameterized.parameters("kv", "residual")
  def test_one_model_in_both_roles_is_one_loss(self, stop):
    """Equal weights read equal contexts, whoever filled them."""
    losses = _crossed(stop, _params(1), _params(1))
    for found in losses.values():
      np.testing.assert_allclose(found, losses[VANILLA, VANILLA], rtol=1e-5)

  @parameterized.parameters("kv", "residual")
  def test_each_entry_reads_its_own_weights_and_context(self, stop):
    """Against the decoder, its context given by hand."""
    vanilla, local = _params(1), _params(2)
    losses = _crossed(stop, vanilla, local)
    self.assertLen({float(found[0]) for found in losses.values()}, 4)
    keys = list(jax.random.split(held_out_key(), CONFIG.eval_batches))
    seen = Decoder(MODEL, f"teacher/{stop}")

    @functools.partial(jax.jit, static_argnums=1)
    def mean(weights, context_of):
      total = jnp.zeros(())
      for key in keys:
        batch = TASK.batch(key, CONFIG.batch_size)
        outputs = models.apply(
          seen, weights, batch.inputs, context_of(batch.inputs)
        )
        total += TASK.loss(outputs, batch).mean() / len(keys)
      return total

    first, second = (
      jax.tree.map(lambda x: x[0], params) for params in (vanilla, local)
    )

    def vanilla_context(inputs):
      return models.collect_context(Decoder(MODEL), first, inputs)[1]

    def local_context(inputs):
      return models.collect_context(
        seen, second, inputs, vanilla_context(inputs)
      )[1]

    for pair, expected in (
      ((LOCAL, VANILLA), mean(second, vanilla_context)),
      ((VANILLA, LOCAL), mean(first, local_context)),
    ):
      np.testing.assert_allclose(losses[pair][0], expected, rtol=1e-5)

  def test_a_local_model_needs_a_teacher(self):
    """It has nothing to read otherwise."""
    one = Teacher(_params(1), Decoder(MODEL))
    with self.assertRaisesRegex(ValueError, "needs the vanilla model"):
      local_myopia.cross_contexts(TASK, CONFIG, one, one, key=held_out_key())


class TeacherTrainingTest(base.TestCase):
  def test_each_seed_reads_its_own_teacher(self):
    """Two seeds with their teachers train as each does alone."""
    teachers = _params(1)
    decoder = Decoder(MODEL, "teacher/kv")

    def trained(seeds, params):
      teacher = Teacher(params, Decoder(MODEL))
      return train(decoder, TASK, CONFIG, seeds, teacher=teacher)

    both = trained(SEEDS, teachers)
    second = jax.tree.map(lambda x: x[1:], teachers)
    alone = trained(SEEDS[1:], second)
    np.testing.assert_allclose(both.losses[:, 1:], alone.losses, rtol=1e-5)
    swapped = trained(SEEDS, jax.tree.map(lambda x: x[::-1], teachers))
    self.assertGreater(np.abs(both.losses - swapped.losses).min(), 1e-6)

  def test_the_teacher_is_not_trained(self):
    """A teacher's parameters are what they were."""
    teachers = _params(1)
    before = jax.tree.map(np.array, teachers)
    teacher = Teacher(teachers, Decoder(MODEL))
    train(Decoder(MODEL, "teacher/kv"), TASK, CONFIG, SEEDS, teacher=teacher)
    self.assert_close(teachers, before, atol=0.0)
