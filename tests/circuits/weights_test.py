"""The weights by head reproduce the model's activations."""

import jax.numpy as jnp
from absl.testing import absltest, parameterized

from jaxlook import interventions
from jaxlook.circuits import weights
from jaxlook.models import Decoder, DecoderConfig
from tests.fixtures import base
from tests.fixtures.random_models import CONFIG, perturbed_init, tokens


class HeadWeightsTest(base.Float64TestCase):
  @parameterized.parameters(False, True)
  def test_activations(self, fold_norms):
    """Queries, keys, values and head outputs, computed from the stream."""
    params = perturbed_init(CONFIG)
    at = [f"block_{layer}/" for layer in range(2)]
    names = ("input", "query", "key", "value", "head")
    _, seen = interventions.capture(
      Decoder(CONFIG),
      params,
      tokens(CONFIG),
      [f"{b}attention/{name}" for b in at for name in names]
      + [f"{b}residual" for b in at]
      + ["residual"],
    )
    found = weights.head_weights(CONFIG, params, fold_norms=fold_norms)
    for layer, block in enumerate(at):
      x = seen[f"{block}attention/input"]
      if fold_norms:
        x = seen[f"{block}residual"]
        x /= jnp.sqrt(x.var(-1, keepdims=True) + CONFIG.norm_epsilon)
      for name in ("query", "key", "value"):
        made = jnp.einsum("btd,ndh->btnh", x, getattr(found, name)[layer])
        made += getattr(found, f"{name}_bias")[layer][None, None]
        self.assert_close(made, seen[f"{block}attention/{name}"])
      z = seen[f"{block}attention/head"]
      wrote = jnp.einsum("btnh,nhd->btd", z, found.out[layer])
      after = "residual" if layer else f"{at[1]}residual"
      self.assert_close(
        wrote + found.out_bias[layer][None, None],
        seen[after] - seen[f"{block}residual"],
      )

  @parameterized.parameters(True, False)
  def test_unembedding(self, tied):
    """Logits from the last stream, without the final LayerNorm's bias."""
    config = DecoderConfig(1, 4, 1, 5, vocab_size=7, tied_head=tied)
    params = perturbed_init(config)
    params["final_norm"]["bias"] = jnp.zeros(4)
    logits, seen = interventions.capture(
      Decoder(config), params, tokens(config), ["residual"]
    )
    x = seen["residual"]
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / jnp.sqrt(x.var(-1, keepdims=True) + config.norm_epsilon)
    for fold_norms in (True, False):
      out = weights.unembedding(config, params, fold_norms=fold_norms)
      gain = 1.0 if fold_norms else params["final_norm"]["scale"][None, None]
      self.assert_close((scaled * gain) @ out, logits)


if __name__ == "__main__":
  absltest.main()
