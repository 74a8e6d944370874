"""`remat`: the backward pass computes blocks again."""

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
  """Returns a loss, as a function of the parameters."""
  decoder = Decoder(MODEL, attention, remat=remat)
  return lambda params: jnp.mean(models.apply(decoder, params, _tokens()) ** 2)


def _stored_bytes(attention, remat):
  """Returns the bytes stored for the backward pass, without compiling."""
  params = jax.eval_shape(lambda: models.init(MODEL, jax.random.key(0)))
  _, backward = jax.eval_shape(
    lambda params: jax.vjp(_loss(attention, remat), params), params
  )
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward))


class RematTest(base.TestCase):
  @parameterized.parameters("causal", "myopic/residual")
  def test_fewer_bytes_are_stored(self, attention):
    """Only the input of each block is stored, also by the fused path."""
    self.assertLess(
      _stored_bytes(attention, True),
      0.3 * _stored_bytes(attention, False),
      attention,
    )

  def test_gradients_are_the_same(self):
    """Loss and gradient do not change, also with the fused backward pass."""
    params = models.init(MODEL, jax.random.key(0))
    recomputed, stored = (
      jax.jit(jax.value_and_grad(_loss("myopic/residual", remat)))(params)
      for remat in (True, False)
    )
    # Float32 rounding of gradients of size one.
    self.assert_close(recomputed, stored, atol=1e-6)

  def test_activations_and_edits(self):
    """Activations can be read and edited as without `remat`."""
    params = models.init(MODEL, jax.random.key(0))
    tokens = _tokens()[:2, :4]

    @jax.jit
    def read_and_edit(shift):
      results = []
      for decoder in (Decoder(MODEL, remat=True), Decoder(MODEL)):

        def edited(shift, decoder=decoder):
          edits = {"block_1/mlp/neuron": lambda x: x + shift}
          return models.apply(decoder, params, tokens, edits=edits).mean()

        results.append(
          (
            models.collect_context(decoder, params, tokens),
            jax.value_and_grad(edited)(shift),
          )
        )
      return results

    recomputed, stored = read_and_edit(0.5)
    self.assert_close(recomputed, stored, atol=1e-6)
    self.assertGreater(abs(float(recomputed[1][1])), 1e-3)


if __name__ == "__main__":
  absltest.main()
