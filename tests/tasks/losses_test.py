"""Losses whose logits are computed a part at a time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook import models
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.losses import DeferredLogits
from jaxlook.tasks.task import Batch
from jaxlook.tasks.text import cross_entropy
from jaxlook.training import step
from tests.fixtures import base

LENGTH, BATCH = 12, 5
MODEL = DecoderConfig(
  layers=1, width=4, heads=1, max_length=LENGTH, vocab_size=999, mlp_width=0
)


class Weighted:
  """Next tokens whose losses count the more the later they are."""

  def loss(self, outputs, batch):
    return cross_entropy(outputs, batch.targets) * jnp.arange(LENGTH)[None]


def _compiled(model, loss_tokens):
  """The losses of some tokens, and the gradient of their mean, compiled."""
  tokens = jax.random.randint(
    jax.random.key(1), (BATCH, LENGTH + 1), 0, model.vocab_size
  )
  batch = Batch(tokens[:, :-1], tokens[:, 1:])

  def mean(params):
    losses = step.position_losses(
      Decoder(model), Weighted(), params, batch, loss_tokens=loss_tokens
    )
    return losses.mean(), losses

  # Logits of some size: near 0 any vocabulary has nearly the same loss.
  params = jax.tree.map(
    lambda x: 20.0 * x.astype(jnp.float64),
    models.init(model, jax.random.key(0)),
  )
  compiled = jax.jit(jax.value_and_grad(mean, has_aux=True))
  compiled = compiled.lower(params).compile()
  return compiled(params), compiled.memory_analysis().temp_size_in_bytes


class PartsTest(base.Float64TestCase):
  @parameterized.parameters(True, False)
  def test_parts_are_the_whole_in_less_memory(self, tied):
    """Losses and gradients are those of all logits; these never exist.

    Parts of 7 tokens: they span sequences, and the last one is filled up.
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

  def test_fewer_tokens_than_a_part(self):
    """A part is no larger than what there is."""
    hidden = jnp.arange(6.0).reshape(1, 3, 2)
    targets = jnp.asarray([[1, 0, 1]])
    seen = []

    def head(x):
      seen.append(x.shape)
      return x * 2.0

    found = cross_entropy(DeferredLogits(hidden, head, 100), targets)
    self.assert_close(found, cross_entropy(hidden * 2.0, targets))
    self.assertEqual(set(seen), {(1, 3, 2)})


if __name__ == "__main__":
  absltest.main()
