"""Blocks that the backward pass computes again."""

import jax
import jax.numpy as jnp
from absl.testing import absltest, parameterized

from jaxlook import models
from jaxlook.models import Decoder, DecoderConfig
from tests.fixtures import base

MODEL = DecoderConfig(
  layers=2, width=8, heads=2, max_length=32, vocab_size=11, init_std=0.3
)
BATCH = 16


def _tokens():
  return jax.random.randint(jax.random.key(1), (BATCH, 32), 0, 11)


def _loss(attention, remat):
  """A loss of the parameters."""
  decoder = Decoder(MODEL, attention, remat=remat)
  return lambda params: jnp.mean(models.apply(decoder, params, _tokens()) ** 2)


def _kept(attention, remat):
  """Bytes that the backward pass is handed; nothing is compiled."""
  params = jax.eval_shape(lambda: models.init(MODEL, jax.random.key(0)))
  _, backward = jax.eval_shape(
    lambda params: jax.vjp(_loss(attention, remat), params), params
  )
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward))


class RematTest(base.TestCase):
  @parameterized.parameters("causal", "myopic/residual")
  def test_less_is_kept(self, attention):
    """Of each block no more than its input, through the fused path, too."""
    self.assertLess(
      _kept(attention, True), 0.3 * _kept(attention, False), attention
    )

  def test_the_same_gradient(self):
    """Loss and gradient do not change, through the fused backward pass, too."""
    params = models.init(MODEL, jax.random.key(0))
    again, kept = (
      jax.jit(jax.value_and_grad(_loss("myopic/residual", remat)))(params)
      for remat in (True, False)
    )
    # Float32 rounding of gradients of size one.
    self.assert_close(again, kept, atol=1e-6)

  def test_activations_and_edits(self):
    """What is looked at and edited inside of blocks is what it was."""
    params = models.init(MODEL, jax.random.key(0))
    tokens = _tokens()[:2, :4]

    @jax.jit
    def looked_at(shift):
      found = []
      for decoder in (Decoder(MODEL, remat=True), Decoder(MODEL)):

        def edited(shift, decoder=decoder):
          edits = {"block_1/mlp/neuron": lambda x: x + shift}
          return models.apply(decoder, params, tokens, edits=edits).mean()

        found.append(
          (
            models.collect_context(decoder, params, tokens),
            jax.value_and_grad(edited)(shift),
          )
        )
      return found

    again, kept = looked_at(0.5)
    self.assert_close(again, kept, atol=1e-6)
    self.assertGreater(abs(float(again[1][1])), 1e-3)


if __name__ == "__main__":
  absltest.main()
