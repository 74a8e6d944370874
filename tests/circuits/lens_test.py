"""The logit lens begins at the embeddings and ends at the model's logits."""

import jax.numpy as jnp
from absl.testing import absltest

from jaxlook import models
from jaxlook.circuits import lens
from jaxlook.models import Decoder
from tests.fixtures import base
from tests.fixtures.random_models import CONFIG, perturbed_init, tokens


class LensTest(base.Float64TestCase):
  def test_ends(self):
    """The last logits are the model's, the first those of its embeddings."""
    params, inputs = perturbed_init(CONFIG), tokens(CONFIG)
    found = lens.logit_lens(Decoder(CONFIG), params, inputs)
    logits = models.apply(Decoder(CONFIG), params, inputs)
    self.assert_close(found[-1], logits)
    x = params["token_embedding"]["embedding"][inputs]
    x += params["position_embedding"][None]
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(
      x.var(-1, keepdims=True) + CONFIG.norm_epsilon
    )
    norm = params["final_norm"]
    x = x * norm["scale"][None, None] + norm["bias"][None, None]
    self.assert_close(found[0], x @ params["token_embedding"]["embedding"].T)


if __name__ == "__main__":
  absltest.main()
