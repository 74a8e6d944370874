"""Cross-entropy, of whole logits and of a few tokens' logits at a time."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from absl.testing import absltest, parameterized

from jaxlook import models
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.losses import DeferredLogits, cross_entropy
from jaxlook.tasks.task import Batch
from jaxlook.training import step
from tests.fixtures import base

_F32 = 1e-5  # Float32 rounding of losses of a few nats.

LENGTH, BATCH = 12, 5
MODEL = DecoderConfig(
  layers=1, width=4, heads=1, max_length=LENGTH, vocab_size=999, mlp_width=0
)


class Weighted:
  """A task whose losses are multiplied by the position."""

  def loss(self, outputs, batch):
    return cross_entropy(outputs, batch.targets) * jnp.arange(LENGTH)[None]


def _compiled(model, loss_tokens):
  """Returns losses and the gradient of their mean, and the memory needed."""
  tokens = jax.random.randint(
    jax.random.key(1), (BATCH, LENGTH + 1), 0, model.vocab_size
  )
  batch = Batch(tokens[:, :-1], tokens[:, 1:])

  def mean(params):
    losses = step.position_losses(
      Decoder(model), Weighted(), params, batch, loss_tokens=loss_tokens
    )
    return losses.mean(), losses

  # Large logits: near 0 all losses would be almost equal.
  params = jax.tree.map(
    lambda x: 20.0 * x.astype(jnp.float64),
    models.init(model, jax.random.key(0)),
  )
  compiled = jax.jit(jax.value_and_grad(mean, has_aux=True))
  compiled = compiled.lower(params).compile()
  return compiled(params), compiled.memory_analysis().temp_size_in_bytes


class PartsTest(base.Float64TestCase):
  @parameterized.parameters(True, False)
  def test_deferred_logits_need_less_memory(self, tied):
    """Losses and gradients are the same; all logits never exist at once.

    Parts of 7 tokens span sequences, and the last part is padded.
    """
    model = dataclasses.replace(MODEL, tied_head=tied)
    ((_, whole), exact), memory = _compiled(model, None)
    ((_, parts), gradient), less = _compiled(model, 7)
    self.assertEqual(parts.shape, (BATCH, LENGTH))
    self.assertGreater(float(np.ptp(whole)), 1.0)
    self.assert_close(parts, whole)
    self.assert_close(gradient, exact)
    logits = BATCH * LENGTH * MODEL.vocab_size * 8
    self.assertGreater(memory, logits)
    self.assertLess(less, logits)

  @parameterized.parameters(-1, -100, 5)
  def test_targets_outside_the_vocabulary_are_refused(self, target):
    """They would be another token, or NaN."""
    with self.assertRaisesRegex(ValueError, r"tokens must lie in 0\.\.4"):
      cross_entropy(jnp.zeros((1, 2, 5)), jnp.array([[0, target]]))

  def test_fewer_tokens_than_a_part(self):
    """A part has at most as many tokens as there are."""
    hidden = jnp.arange(6.0).reshape(1, 3, 2)
    targets = jnp.asarray([[1, 0, 1]])
    seen = []

    def head(x):
      seen.append(x.shape)
      return x * 2.0

    found = cross_entropy(DeferredLogits(hidden, head, 100), targets)
    self.assert_close(found, cross_entropy(hidden * 2.0, targets))
    self.assertEqual(set(seen), {(1, 3, 2)})


class CrossEntropyTest(base.TestCase):
  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.logits = rng.normal(size=(2, 3, 7))
    self.targets = rng.integers(0, 7, (2, 3))
    log_probs = scipy.special.log_softmax(self.logits, axis=-1)
    self.expected = -np.take_along_axis(
      log_probs, self.targets[..., None], axis=-1
    )[..., 0]

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(("float32", _F32), ("bfloat16", 0.05))
  def test_cross_entropy(self, dtype, tolerance):
    """It is -log softmax at the target, in float32 or wider."""
    result = self.variant(cross_entropy)(
      jnp.asarray(self.logits, dtype), jnp.asarray(self.targets)
    )
    self.assertEqual(result.dtype, jnp.float32)
    np.testing.assert_allclose(result, self.expected, atol=tolerance)

  def test_cross_entropy_keeps_float64(self):
    """Float64 logits give float64 losses."""
    with jax.enable_x64(True):
      result = cross_entropy(
        jnp.asarray(self.logits), jnp.asarray(self.targets)
      )
      self.assertEqual(result.dtype, jnp.float64)
      np.testing.assert_allclose(result, self.expected, atol=1e-14)

  def test_cross_entropy_of_large_bfloat16_logits(self):
    """The loss 256 + log 2 of half-precision logits is not rounded."""
    logits = jnp.array([[[256.0, 256.0, 0.0]]], jnp.bfloat16)
    for target, expected in ((0, np.log(2.0)), (2, 256 + np.log(2.0))):
      result = cross_entropy(logits, jnp.array([[target]]))
      np.testing.assert_allclose(result, [[expected]], rtol=1e-6)

  def test_gradient_is_probability_minus_target(self):
    """The gradient of the loss is softmax - one-hot at each position."""
    logits, targets = jnp.asarray(self.logits), jnp.asarray(self.targets)
    result = jax.grad(lambda x: cross_entropy(x, targets).sum())(logits)
    expected = scipy.special.softmax(self.logits, -1) - np.eye(7)[self.targets]
    np.testing.assert_allclose(result, expected, atol=_F32)

  def test_wrong_shapes_are_refused(self):
    """Ranks, shapes and types are checked."""
    logits, targets = jnp.asarray(self.logits), jnp.asarray(self.targets)
    for bad in (
      (logits[..., None], targets),
      (logits, targets[:1]),
      (logits, targets.astype(float)),
    ):
      with self.assertRaises(AssertionError):
        cross_entropy(*bad)


if __name__ == "__main__":
  absltest.main()
