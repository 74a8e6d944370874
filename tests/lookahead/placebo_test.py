"""Placebo comparisons: what is held equal, and what is counted."""

import jax
import numpy as np

from jaxlook.lookahead import placebo
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.precache import Precache
from jaxlook.training import TrainConfig, evaluate, held_out_key, train
from jaxlook.training.step import position_losses
from tests.fixtures import base

TASK = Precache(p=0.5, terms=1, frequency=1.0, length=4)
MODEL = DecoderConfig(
  layers=1,
  width=8,
  heads=2,
  max_length=4,
  input_features=2,
  output_features=1,
)
CONFIG = TrainConfig(steps=3, batch_size=4, eval_batches=2, log_every=3)


class PlaceboTest(base.TestCase):
  def test_orders_differ_and_the_first_is_ordinary_training(self):
    """Repetition r holds the seeds r n ..; the first order is `train`'s."""
    losses, own = placebo.final_losses(Decoder(MODEL), TASK, CONFIG, 2, 2)
    self.assertEqual(losses.shape, (2, 2, 2))
    self.assertGreater(np.abs(losses[0] - losses[1]).min(), 0.0)
    trained = train(Decoder(MODEL), TASK, CONFIG, range(4))
    wanted = evaluate(
      Decoder(MODEL), TASK, CONFIG, trained.params, key=held_out_key()
    ).mean(axis=1)
    np.testing.assert_allclose(losses[0].reshape(-1), wanted, rtol=1e-4)
    self.check_own_windows(own, trained.params)

  def check_own_windows(self, own, params):
    """Each repetition has one set of new windows for its seeds and orders."""
    self.assertEqual(own.shape, (2, 2, 2, 8))
    key = jax.random.fold_in(held_out_key(), 2**32 - 1)
    for repetition in range(2):
      batch = TASK.batch(jax.random.fold_in(key, repetition), 8)
      for seed in range(2):
        one = jax.tree.map(lambda x, e=2 * repetition + seed: x[e], params)
        wanted = position_losses(Decoder(MODEL), TASK, one, batch).mean(axis=1)
        np.testing.assert_allclose(own[0, repetition, seed], wanted, rtol=1e-4)
    self.assertGreater(np.abs(own[:, 0] - own[:, 1]).min(), 0.0)

  def test_no_steps_apart_means_no_difference(self):
    """At a learning rate of nearly zero both orders end where they began."""
    still = TrainConfig(
      steps=1, batch_size=4, eval_batches=2, learning_rate=1e-12
    )
    losses = placebo.final_losses(Decoder(MODEL), TASK, still, 1, 2)
    for kind in losses:
      np.testing.assert_allclose(kind[0], kind[1], rtol=1e-5)

  def test_coverage_of_known_differences(self):
    """Normal differences are covered at 95%, shifted ones are not."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(300, 4))
    zero = np.zeros_like(noise)
    found = placebo.coverage(np.stack([noise, zero]))["t"]
    self.assertEqual(found.covered + found.above + found.below, 300)
    low, high = found.interval.ci95
    self.assertLess(low, 0.95)
    self.assertGreater(high, 0.95)
    shifted = placebo.coverage(np.stack([noise[:50] + 50.0, zero[:50]]))["t"]
    self.assertEqual((shifted.covered, shifted.above), (0, 50))

  def test_diverged_pairs_are_left_out(self):
    """A repetition with one finite pair is not counted."""
    losses = np.ones((2, 2, 3))
    losses[1, 0, :2] = np.nan
    found = placebo.coverage(losses)
    self.assertEqual(found["t"].covered, 1)

  def test_window_coverage(self):
    """Windows that seeds share are part of the two-way interval only."""
    rng = np.random.default_rng(1)
    shape = (300, 4, 16)
    windows = rng.normal(size=(300, 1, 16))
    values = 5.0 + windows + 0.1 * rng.normal(size=shape)
    found = placebo.window_coverage(values, 5.0)
    self.assertLess(found["t"].covered, 150)
    low, high = found["two-way"].interval.ci95
    self.assertLess(low, 0.95)
    self.assertGreater(high, 0.95)
    self.assertEqual(placebo.window_coverage(values, 0.0)["t"].above, 300)

  def test_window_coverage_leaves_out_diverged_seeds(self):
    """A repetition with one finite seed is not counted."""
    values = np.zeros((2, 3, 4))
    values[0, :2] = np.nan
    values[1, 0] = np.nan
    for found in placebo.window_coverage(values).values():
      self.assertEqual((found.covered, found.interval.n), (1, 1))

  def test_refuses_too_few(self):
    """An interval needs two seeds."""
    with self.assertRaisesRegex(ValueError, "seeds at least 2"):
      placebo.final_losses(Decoder(MODEL), TASK, CONFIG, 1, 1)
