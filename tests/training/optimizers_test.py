"""Learning-rate schedules and optimizers."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from jaxlook import models
from jaxlook.models import DecoderConfig
from jaxlook.training import MeshShape, TrainConfig
from jaxlook.training.optimizers import (
  NAMES,
  hidden_matrices,
  optimizer,
  schedule,
)
from tests.fixtures import base

_CONFIG = TrainConfig(
  steps=100, batch_size=2, learning_rate=0.01, warmup_fraction=0.1
)
_MODEL = DecoderConfig(
  layers=1, width=8, heads=2, max_length=4, vocab_size=5, tied_head=False
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

  def test_warm_up_stable_decay(self):
    """Flat between a warm-up of so many steps and a linear fall to 0."""
    config = dataclasses.replace(
      _CONFIG, schedule="wsd", warmup_steps=5, decay_fraction=0.25
    )
    steps = np.arange(101)
    expected = 0.01 * np.minimum(1, np.minimum(steps / 5, (100 - steps) / 25))
    self.assert_close(_rates(config, steps), expected, atol=1e-8)
    # A longer run begins with the same steps.
    longer = dataclasses.replace(config, steps=400)
    self.assert_close(_rates(longer, range(76)), _rates(config, range(76)))

  def test_longest_warm_up(self):
    """A warm-up that rounds to all steps gives finite rates."""
    for steps, kind in itertools.product((1, 3), ("cosine", "wsd")):
      config = TrainConfig(
        steps=steps, batch_size=1, warmup_fraction=0.9, schedule=kind
      )
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

  def _trained(self, config, decay_of=None):
    """Parameters, and what one step makes of them; zero gradient of those."""
    params = models.init(_MODEL, jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 99))
    grads = jax.tree.map(
      lambda x: jax.random.normal(next(keys), x.shape), params
    )
    if decay_of is not None:
      params = jax.tree.map(lambda x: x + 1.0, params)
      grads = jax.tree.map(jnp.zeros_like, grads)
    rule = optimizer(config)
    updates, _ = jax.jit(rule.update)(grads, rule.init(params), params)
    return params, grads, updates

  def test_muon_updates_are_orthogonal(self):
    """In the blocks' matrices: singular values are alike. Adam the rest."""
    config = dataclasses.replace(
      self.config, optimizer="muon", weight_decay=0.0
    )
    params, grads, updates = self._trained(config)
    # As optax does it, with Nesterov's momentum.
    rule = optax.adamw(0.01, weight_decay=0.0, nesterov=True)
    adam, _ = rule.update(grads, rule.init(params), params)
    hidden = hidden_matrices(params)
    self.assertEqual(sum(jax.tree.leaves(hidden)), 6)
    for marked, muon, other in zip(
      *map(jax.tree.leaves, (hidden, updates, adam)), strict=True
    ):
      if marked:
        values = np.linalg.svd(muon, compute_uv=False)
        self.assertLess(values.max(), 2.0 * values.min())
        # Liu et al.: the root mean square is a fifth of the rate.
        size = np.sqrt(np.mean(np.square(muon))) / config.learning_rate
        self.assertBetween(size, 0.1, 0.3)
      else:
        self.assert_close(np.asarray(muon), np.asarray(other), atol=1e-7)

  def test_momentum_and_signs(self):
    """SGD's first step is the gradient, Lion's its sign, times the rate."""
    for name, of in (("sgd", lambda x: x), ("lion", np.sign)):
      config = dataclasses.replace(
        self.config, optimizer=name, weight_decay=0.0
      )
      _, grads, updates = self._trained(config)
      for grad, update in zip(
        *map(jax.tree.leaves, (grads, updates)), strict=True
      ):
        self.assert_close(
          np.asarray(update), -0.01 * of(np.asarray(grad)), atol=1e-7
        )

  @parameterized.product(name=list(NAMES), only=[False, True])
  def test_weight_decay_of_each(self, name, only):
    """Decoupled: rate * decay * weight; of all weights, or of matrices only."""
    config = dataclasses.replace(
      self.config, optimizer=name, decay_matrices_only=only
    )
    params, _, updates = self._trained(config, decay_of=name)
    for marked, weight, update in zip(
      *map(jax.tree.leaves, (hidden_matrices(params), params, updates)),
      strict=True,
    ):
      factor = 0.005 if marked or not only else 0.0
      self.assert_close(
        np.asarray(update), -factor * np.asarray(weight), atol=1e-6
      )

  def test_muon_needs_whole_matrices(self):
    """A device that has a part of a matrix cannot take its step."""
    config = dataclasses.replace(_CONFIG, optimizer="muon")
    MeshShape(seed=2).check(2, config)
    with self.assertRaisesRegex(ValueError, "mesh axis model must be 1 with"):
      MeshShape(model=2).check(1, config)
