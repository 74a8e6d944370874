"""Decoders in bfloat16: dtypes, rounding errors, and exact zeros."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized

from jaxlook import models
from jaxlook.models import Decoder, DecoderConfig, sites
from tests.fixtures import base

LENGTH = 8
CONTINUOUS = DecoderConfig(
  layers=2,
  width=16,
  heads=2,
  max_length=LENGTH,
  input_features=3,
  output_features=2,
  init_std=0.3,
)
TOKENS = DecoderConfig(
  layers=1, width=32, heads=2, max_length=16, vocab_size=97, init_std=0.1
)
NEOX = dataclasses.replace(
  TOKENS, positions="rotary", parallel_residual=True, tied_head=False
)
# The relative rounding error of bfloat16 is up to 2^-9; sums have smaller
# errors, several layers larger ones.
LOSS_ERROR = 1e-3
GRADIENT_ERROR = 2e-2


@functools.partial(jax.jit, static_argnums=0)
def _sensitivity(attention):
  """Returns |d output_t / d input_s|, [T, S]."""
  decoder = Decoder(CONTINUOUS, attention, bfloat16=True)
  params = models.init(CONTINUOUS, jax.random.key(0))
  inputs = jax.random.normal(jax.random.key(1), (1, LENGTH, 3))

  def outputs(inputs):
    return models.apply(decoder, params, inputs)[0].sum(axis=-1)

  return jnp.abs(jax.jacrev(outputs)(inputs)).sum(axis=(1, 3))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _loss_and_gradient(config, attention, bfloat16):
  """Returns the loss, its gradient and all activations of fixed tokens."""
  decoder = Decoder(config, attention, bfloat16=bfloat16)
  params = models.init(config, jax.random.key(0))
  tokens = jax.random.randint(jax.random.key(1), (4, 17), 0, config.vocab_size)

  def loss(params):
    logits, state = decoder.apply(
      {"params": params}, tokens[:, :-1], mutable=["intermediates"]
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(
      logits, tokens[:, 1:]
    )
    return losses.mean(), (logits, sites.sown(state["intermediates"]))

  return jax.value_and_grad(loss, has_aux=True)(params)


class PrecisionTest(base.TestCase):
  @parameterized.parameters("myopic/residual", "horizon:1")
  def test_law_4_blocked_gradients_are_zero(self, attention):
    """In bfloat16, exactly the blocked gradients are 0."""
    sensitivity = np.asarray(_sensitivity(attention))
    distance = np.arange(LENGTH)[:, None] - np.arange(LENGTH)[None]
    # Two layers of horizon 1 reach two positions back.
    reach = 2 if attention == "horizon:1" else 0
    np.testing.assert_array_equal(
      sensitivity > 0, (0 <= distance) & (distance <= reach)
    )

  def test_causal_gradients_are_not_zero(self):
    """Causal attention learns through all earlier positions."""
    sensitivity = np.asarray(_sensitivity("causal"))
    np.testing.assert_array_equal(sensitivity > 0, np.tri(LENGTH, dtype=bool))

  @parameterized.parameters((TOKENS, "causal"), (NEOX, "myopic/residual"))
  def test_error_budget(self, config, attention):
    """Loss and gradient are within the error that docs/numerics.md states."""
    (loss, _), gradient = _loss_and_gradient(config, attention, True)
    (expected, _), exact = _loss_and_gradient(config, attention, False)
    self.assertNotEqual(loss, expected)
    self.assertLess(abs(loss / expected - 1.0), LOSS_ERROR)
    for leaf in jax.tree.leaves(gradient):
      self.assertEqual(leaf.dtype, jnp.float32)
    error = optax.tree.norm(optax.tree.sub(gradient, exact))
    self.assertLess(error / optax.tree.norm(exact), GRADIENT_ERROR)

  def test_dtypes_of_activations(self):
    """Residual stream and logits are float32, other activations bfloat16."""
    (_, (logits, seen)), _ = _loss_and_gradient(NEOX, "myopic/residual", True)
    self.assertEqual(logits.dtype, jnp.float32)
    # Rounding to bfloat16 changes the logits, so they were not rounded before.
    rounded = logits.astype(jnp.bfloat16).astype(jnp.float32)
    self.assertGreater(np.mean(rounded != logits), 0.9)
    for site, activation in seen.items():
      stream = site.endswith("residual")
      self.assertEqual(
        activation.dtype, jnp.float32 if stream else jnp.bfloat16, site
      )

  def test_a_teacher_of_float32(self):
    """A float32 teacher's keys and values are rounded when they are read."""

    @jax.jit
    def outputs():
      params = models.init(CONTINUOUS, jax.random.key(0))
      inputs = jax.random.normal(jax.random.key(1), (1, LENGTH, 3))
      _, context = models.collect_context(Decoder(CONTINUOUS), params, inputs)
      return [
        models.apply(
          Decoder(CONTINUOUS, "teacher", bfloat16=half), params, inputs, context
        )
        for half in (True, False)
      ]

    half, whole = outputs()
    self.assert_close(half, whole, atol=0.05)


if __name__ == "__main__":
  absltest.main()
