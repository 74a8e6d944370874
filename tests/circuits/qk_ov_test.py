"""Circuits equal the explicit products of weights and score as expected."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook import models
from jaxlook.circuits import qk_ov
from jaxlook.models import DecoderConfig
from tests.fixtures import base
from tests.fixtures.random_models import CONFIG, perturbed_init


class QkOvTest(base.Float64TestCase):
  def test_products(self):
    """Circuits of two heads, one per layer, equal the products by hand."""
    params = perturbed_init(CONFIG)
    tokens_VxD = params["token_embedding"]["embedding"]
    table = params["position_embedding"]
    full_qk, full_ov = (
      make(CONFIG, params).dense() for make in (qk_ov.full_qk, qk_ov.full_ov)
    )
    positions = qk_ov.positional_qk(CONFIG, params)
    for layer, head in ((0, 1), (1, 0)):
      part = params[f"block_{layer}"]["attention"]
      own = slice(3 * head, 3 * head + 3)
      q, k, v = (
        part[name]["kernel"][:, own] for name in ("query", "key", "value")
      )
      o = part["out"]["kernel"][own]
      bias = part["query"]["bias"][own]
      at = (layer, head)
      self.assert_close(full_qk[at], tokens_VxD @ q @ k.T @ tokens_VxD.T)
      self.assert_close(full_ov[at], tokens_VxD @ v @ o @ tokens_VxD.T)
      self.assert_close(
        positions[at], (table @ q + bias[None]) @ (table @ k).T / np.sqrt(3)
      )

  def test_copying_score_of_an_identity(self):
    """A head whose OV circuit is the identity copies: score 1; negated, -1."""
    config = DecoderConfig(1, 8, 2, 3, vocab_size=8, tied_head=False)
    params = models.init(config, jax.random.key(0))
    params["token_embedding"]["embedding"] = jnp.eye(8)
    params["head"]["kernel"] = jnp.eye(8)
    part = params["block_0"]["attention"]
    part["value"]["kernel"] = jnp.eye(8)
    signs = jnp.where(jnp.arange(8) < 4, 1.0, -1.0)
    part["out"]["kernel"] = jnp.diag(signs)
    score = qk_ov.full_ov(config, params).eigen_score()
    np.testing.assert_allclose(score, [[1.0, -1.0]], atol=1e-12)
    np.testing.assert_allclose(
      qk_ov.copying_scores(config, params), score, atol=1e-12
    )

  def test_copying_scores_without_the_vocabulary(self):
    """`copying_scores` gives the eigen score of the V x V matrix."""
    for fold_norms in (False, True):
      params, setting = perturbed_init(CONFIG), {"fold_norms": fold_norms}
      np.testing.assert_allclose(
        qk_ov.copying_scores(CONFIG, params, **setting),
        qk_ov.full_ov(CONFIG, params, **setting).eigen_score(),
        atol=1e-10,
      )

  def test_no_positions(self):
    """A rotary model is refused, because it has no position embedding."""
    config = DecoderConfig(1, 8, 2, 3, vocab_size=8, positions="rotary")
    with self.assertRaisesRegex(ValueError, "positions must be learned, not"):
      qk_ov.positional_qk(config, {})


if __name__ == "__main__":
  absltest.main()
