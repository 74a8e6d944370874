"""The training config, its schedule and its optimizer."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized

from jaxlook.training import TrainConfig
from jaxlook.training.config import optimizer, schedule
from tests.fixtures import base

_CONFIG = TrainConfig(
  steps=100, batch_size=2, learning_rate=0.01, warmup_fraction=0.1
)


def _rates(config, steps):
  return np.array([schedule(config)(step) for step in steps])


class ScheduleTest(base.TestCase):
  def test_warm_up_and_cosine(self):
    """The rate rises linearly to the peak, then falls as half a cosine."""
    steps = np.arange(101)
    line = 0.01 * steps / 10
    cosine = 0.01 * (1 + np.cos(np.pi * (steps - 10) / 90)) / 2
    expected = np.where(steps < 10, line, cosine)
    # The tolerance is float32 rounding of numbers below 0.01.
    self.assert_close(_rates(_CONFIG, steps), expected, atol=1e-8)

  def test_without_warm_up(self):
    """A warm-up below half a step rounds to 0: the first rate is the peak."""
    config = dataclasses.replace(_CONFIG, warmup_fraction=0.004)
    rates = _rates(config, [0, 50, 100])
    self.assert_close(rates, np.array([0.01, 0.005, 0.0]), atol=1e-8)

  def test_longest_warm_up(self):
    """A warm-up that rounds to all steps gives finite rates."""
    for steps in (1, 3):
      config = TrainConfig(steps=steps, batch_size=1, warmup_fraction=0.9)
      rates = _rates(config, range(steps))
      self.assertTrue(np.isfinite(rates).all())
      self.assertLessEqual(rates.max(), np.float32(1e-3))


class OptimizerTest(base.TestCase):
  config = dataclasses.replace(
    _CONFIG, warmup_fraction=0.0, weight_decay=0.5, clip_norm=None
  )

  def _update(self, config, gradient, params):
    transform = optimizer(config)
    state = transform.init(params)
    return np.asarray(transform.update(gradient, state, params)[0])

  def test_weight_decay_is_decoupled(self):
    """At gradient 0, parameters shrink by weight decay * learning rate."""
    params = jnp.asarray([1.0, -2.0])
    update = self._update(self.config, jnp.zeros(2), params)
    self.assert_close(update, np.array([-0.005, 0.01]), atol=1e-8)

  def test_first_step_is_the_sign(self):
    """Adam's first step is the learning rate * the gradient's sign."""
    update = self._update(self.config, jnp.asarray([3.0, -1e-3]), jnp.zeros(2))
    # The error is Adam's epsilon, 1e-8, relative to the smaller gradient.
    np.testing.assert_allclose(update, [-0.01, 0.01], rtol=2e-5)

  def test_clipping(self):
    """The norm over all parameters is clipped at `clip_norm`."""
    transform = optimizer(dataclasses.replace(self.config, clip_norm=2.0))
    gradients = {"a": jnp.asarray([6.0]), "b": jnp.asarray([-8.0])}
    for clip, expected in ((2.0, (1.2, -1.6)), (100.0, (6.0, -8.0))):
      transform = optimizer(dataclasses.replace(self.config, clip_norm=clip))
      _, state = transform.update(
        gradients, transform.init(gradients), gradients
      )
      # After one step the first moment is a tenth of the gradient.
      moment = optax.tree.get(state, "mu")
      clipped = 10 * np.concatenate([moment["a"], moment["b"]])
      np.testing.assert_allclose(clipped, expected, rtol=1e-5)


class TrainConfigTest(base.TestCase):
  @parameterized.parameters(
    ({"steps": 0}, "steps must be at least 1, not 0"),
    ({"steps": 2**31}, "steps must be at most 2147483647, not 2147483648"),
    ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
    ({"log_every": -1}, "log_every must be at least 1, not -1"),
    ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, not 0"),
    ({"eval_batches": 0}, "eval_batches must be at least 1, not 0"),
    ({"microbatches": 0}, "microbatches must be at least 1, not 0"),
    ({"microbatches": 3}, "microbatches must divide batch_size=2, not 3"),
    ({"loss_tokens": 0}, "loss_tokens must be at least 1, not 0"),
    ({"learning_rate": 0.0}, "learning_rate must be positive, not 0.0"),
    ({"learning_rate": float("nan")}, "learning_rate must be positive, not"),
    ({"weight_decay": -0.1}, "weight_decay must be at least 0, not -0.1"),
    ({"warmup_fraction": 1.0}, r"warmup_fraction must lie in \[0, 1\), not 1"),
    ({"warmup_fraction": -0.1}, r"must lie in \[0, 1\), not -0.1"),
    ({"clip_norm": 0.0}, "clip_norm must be positive, not 0.0"),
  )
  def test_bad_fields_are_refused(self, changes, message):
    """The error names the field."""
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(_CONFIG, **changes)

  def test_smallest_values_are_accepted(self):
    """The smallest value of every field is accepted."""
    config = TrainConfig(
      steps=1,
      batch_size=1,
      weight_decay=0.0,
      warmup_fraction=0.0,
      log_every=1,
      checkpoint_every=1,
      eval_batches=1,
    )
    self.assertIsNone(config.clip_norm)


if __name__ == "__main__":
  absltest.main()
