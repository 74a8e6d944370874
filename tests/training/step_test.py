"""Seeds trained together get the same results as seeds trained alone."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized

from jaxlook import models
from jaxlook.models import Decoder
from jaxlook.training import step
from tests.fixtures import base
from tests.fixtures.seed_training import (
  CALM,
  CONFIG,
  INFINITE_GRADIENT,
  INFINITE_LOSS,
  MODEL,
  ROUNDING,
  SEEDS,
  STEPS,
  TASK,
  TRACES,
  calm_chunk,
  calm_chunks,
  chunk_step,
  feed,
  init_seeds,
  run_steps,
)


def _member(tree, e):
  return jax.tree.map(lambda x: x[e], tree)


class SeedsTest(base.TestCase):
  def test_keys(self):
    """A seed's keys do not depend on the other seeds, and are unique."""
    keys = step.seed_keys(SEEDS)
    data = np.stack([jax.random.key_data(k) for k in keys])
    self.assertLen({x.tobytes() for x in data.reshape(-1, data.shape[-1])}, 6)
    for e, seed in enumerate(SEEDS):
      (init,), (draw,) = step.seed_keys([seed])
      np.testing.assert_array_equal(jax.random.key_data(init), data[0, e])
      np.testing.assert_array_equal(jax.random.key_data(draw), data[1, e])

  def test_keys_do_not_depend_on_the_default_generator(self):
    """Under `rbg` a seed's numbers would depend on the seeds beside it."""
    expected = jax.random.key_data(step.seed_keys(SEEDS).data)
    with jax.default_prng_impl("rbg"):
      keys = step.seed_keys(SEEDS).data
    np.testing.assert_array_equal(jax.random.key_data(keys), expected)
    self.assertEqual(str(jax.random.key_impl(keys)), "threefry2x32")

  def test_init(self):
    """A seed's initial parameters do not depend on the other seeds."""
    states = init_seeds(SEEDS)
    np.testing.assert_array_equal(states.diverged_at, step.ALIVE)
    for e, seed in enumerate(SEEDS):
      alone = init_seeds([seed])
      chex.assert_trees_all_equal(_member(states, e), _member(alone, 0))
    kernels = np.asarray(states.params["block_0"]["attention"]["key"]["kernel"])
    self.assertGreater(np.abs(kernels[0] - kernels[1]).max(), 1e-3)

  def test_law_8_seeds_train_as_alone(self):
    """Each of several seeds trains as it does alone."""
    states, losses = calm_chunks()[-1]
    for e, seed in enumerate(SEEDS):
      alone, loss = run_steps([seed])[-1]
      self.assert_close(
        _member(states.params, e), _member(alone.params, 0), atol=ROUNDING
      )
      np.testing.assert_allclose(losses[e], loss[0], rtol=1e-6)

  def test_law_8_members_differ(self):
    """Different seeds have different parameters and losses."""
    states, losses = calm_chunks()[-1]
    self.assertLen(set(losses.tolist()), len(SEEDS))
    for x in jax.tree.leaves(states.params):
      for a, b in ((0, 1), (1, 2), (0, 2)):
        self.assertGreater(np.abs(x[a] - x[b]).max(), 1e-3)

  def test_law_8_order_does_not_matter(self):
    """Permuted seeds give permuted states, bit for bit."""
    order = (2, 0, 1)
    permuted = run_steps([SEEDS[e] for e in order])[-1]
    chex.assert_trees_all_equal(
      permuted, _member(calm_chunks()[-1], np.array(order))
    )

  @parameterized.product(
    broken=[INFINITE_LOSS, INFINITE_GRADIENT], at=[0, 3, STEPS - 1]
  )
  def test_law_8_a_neighbour_diverges(self, broken, at):
    """A diverged seed is frozen and marked; the others are unchanged."""
    diverged, others = 1, np.array([0, 2])
    calm = calm_chunks()
    history = run_steps(SEEDS, {(at, diverged): broken})
    for now, ((states, loss), (expected, wanted_loss)) in enumerate(
      zip(history, calm, strict=True)
    ):
      chex.assert_trees_all_equal(
        _member((states, loss), others),
        _member((expected, wanted_loss), others),
      )
      np.testing.assert_array_equal(expected.diverged_at, step.ALIVE)
      if now < at:
        chex.assert_trees_all_equal(states, expected)
        self.assertTrue(np.isfinite(loss).all())
        continue
      self.assertEqual(states.diverged_at[diverged], at)
      self.assertTrue(np.isnan(loss[diverged]))
      before, _ = calm[at - 1] if at else (init_seeds(SEEDS), None)
      chex.assert_trees_all_equal(
        _member((states.params, states.opt_state), diverged),
        _member((before.params, before.opt_state), diverged),
      )
      chex.assert_tree_all_finite(states.params)

  def test_several_diverge(self):
    """Each seed is frozen at its own step, even if later steps are finite."""
    broken = {(1, 0): INFINITE_LOSS, (4, 2): INFINITE_GRADIENT}
    states, _ = run_steps(SEEDS, broken)[-1]
    np.testing.assert_array_equal(states.diverged_at, [1, step.ALIVE, 4])


class ChunkTest(base.TestCase):
  def test_a_batch_depends_on_seed_and_step(self):
    """Step s of a seed uses the batch of fold_in(data key, s)."""
    states = init_seeds(SEEDS)
    position_losses = jax.jit(step.position_losses, static_argnums=(0, 1))
    for at in (0, 5):
      ((_, losses),) = run_steps(SEEDS, steps=[at])
      for e, seed in enumerate(SEEDS):
        _, data = jax.random.split(jax.random.key(seed))
        batch = TASK.batch(
          jax.random.fold_in(data, at), CONFIG.batch_size, np.float32(CALM)
        )
        expected = position_losses(
          Decoder(MODEL), TASK, _member(states.params, e), batch
        ).mean()
        np.testing.assert_allclose(losses[e], expected, rtol=1e-6)

  def test_variants_are_paired(self):
    """Variants share init and data, and train to different parameters."""
    myopic = run_steps(SEEDS, attention="myopic")
    np.testing.assert_allclose(myopic[0][1], calm_chunks()[0][1], rtol=1e-6)
    last = [
      run[-1][0].params["block_0"]["attention"]
      for run in (myopic, calm_chunks())
    ]
    for name in ("key", "value"):
      change = last[0][name]["kernel"] - last[1][name]["kernel"]
      self.assertGreater(np.abs(change).max(), 1e-3)

  def test_a_chunk_equals_single_steps(self):
    """A chunk gives the states of single steps, and their mean loss."""
    states, losses = chunk_step()(
      init_seeds(SEEDS),
      step.seed_keys(SEEDS).data,
      jnp.arange(STEPS, dtype=jnp.int32),
      feed(len(SEEDS), {}),
    )
    expected, mean = calm_chunk(STEPS)
    chex.assert_trees_all_equal(states, expected)
    np.testing.assert_allclose(losses, mean, rtol=1e-6)

  def test_a_chunk_with_a_divergence_has_no_loss(self):
    """The loss is NaN for a seed that diverged in the chunk's last step."""
    states, losses = chunk_step()(
      init_seeds(SEEDS),
      step.seed_keys(SEEDS).data,
      jnp.arange(STEPS, dtype=jnp.int32),
      feed(len(SEEDS), {(STEPS - 1, 1): INFINITE_GRADIENT}),
    )
    np.testing.assert_array_equal(np.isnan(losses), [False, True, False])
    np.testing.assert_array_equal(states.diverged_at, [-1, STEPS - 1, -1])

  def test_each_shape_is_traced_once(self):
    """Other steps, seeds and divergence cause no new trace."""
    run_steps(SEEDS, {(1, 0): INFINITE_LOSS})
    run_steps((7, 8, 9))
    self.assertEqual(TRACES["causal", 3, 1], 1)
    self.assertEqual(set(TRACES.values()), {1})


class MicrobatchesTest(base.TestCase):
  def _loss_gradient_memory(self, microbatches):
    """Returns loss and gradient of a batch of 32, and the program's memory."""
    task, decoder = TASK.task, Decoder(MODEL, "myopic")
    batch = task.batch(jax.random.key(1), 32)
    params = models.init(MODEL, jax.random.key(2))
    function = functools.partial(
      step.loss_and_gradient, decoder, task, microbatches
    )
    compiled = jax.jit(function).lower(params, batch).compile()
    return (
      compiled(params, batch),
      compiled.memory_analysis().temp_size_in_bytes,
    )

  def test_microbatches_need_less_memory(self):
    """Loss and gradient are the same, with less than half the memory."""
    whole, memory = self._loss_gradient_memory(1)
    parts, less = self._loss_gradient_memory(8)
    self.assert_close(parts, whole, atol=ROUNDING)
    self.assertLess(less, memory / 2)
    self.assertGreater(optax.tree.norm(whole[1]), 1e-2)


if __name__ == "__main__":
  absltest.main()
