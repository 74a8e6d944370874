"""Circuits are the explicit products of the weights, and score as built."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook import models
from jaxlook.circuits import composition, lens, qk_ov, weights
from jaxlook.models import Decoder, DecoderConfig
from tests import base
from tests.circuits.weights_test import CONFIG, drawn, tokens


class QkOvTest(base.Float64TestCase):
  def test_products(self):
    """Of two heads, one of each layer, multiplied out by hand."""
    params = drawn(CONFIG)
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
    """The short way gives the scores of the factored V x V matrix."""
    for fold_norms in (False, True):
      params, setting = drawn(CONFIG), {"fold_norms": fold_norms}
      np.testing.assert_allclose(
        qk_ov.copying_scores(CONFIG, params, **setting),
        qk_ov.full_ov(CONFIG, params, **setting).eigen_score(),
        atol=1e-10,
      )

  def test_no_positions(self):
    """Rotary models have no position embedding to multiply with."""
    config = DecoderConfig(1, 8, 2, 3, vocab_size=8, positions="rotary")
    with self.assertRaisesRegex(ValueError, "positions must be learned, not"):
      qk_ov.positional_qk(config, {})


class CompositionTest(base.Float64TestCase):
  def test_explicit_norms(self):
    """E3 of CLAIMS: Frobenius norms of products that are multiplied out."""
    found = weights.head_weights(CONFIG, drawn(CONFIG))
    writes = qk_ov.ov(found).dense()[0, 1]
    qk, ov = qk_ov.qk(found).dense()[1, 0], qk_ov.ov(found).dense()[1, 0]
    norm = jnp.linalg.norm
    for kind, reads in (("query", qk), ("key", qk.T), ("value", ov)):
      scores = composition.composition(found, kind)
      wanted = norm(writes @ reads) / (norm(writes) * norm(reads))
      np.testing.assert_allclose(scores[0, 1, 1, 0], wanted, rtol=1e-10)
      np.testing.assert_array_equal(scores[1], 0.0)
      np.testing.assert_array_equal(scores[0, :, 0], 0.0)

  def test_refuses_unknown_kinds(self):
    """A kind that is none is refused, with those that there are."""
    found = weights.head_weights(CONFIG, drawn(CONFIG))
    with self.assertRaisesRegex(ValueError, "kind must be one of .*'query'"):
      composition.composition(found, "residual")

  def test_random_weights_score_as_the_baseline(self):
    """Heads of fresh Gaussian weights lie within its spread, for each kind."""
    config = DecoderConfig(2, 32, 4, 3, vocab_size=8, mlp_width=0)
    found = weights.head_weights(config, models.init(config, jax.random.key(3)))
    base_line = composition.random_baseline(jax.random.key(0), 32, 8, 200)
    for kind in ("query", "key", "value"):
      scores = composition.composition(found, kind)[0, :, 1]
      error = abs(scores.mean() - base_line.mean) / base_line.deviation
      self.assertLess(error, 1.0)
      self.assertGreater(scores.std(), 0.0)


class LensTest(base.Float64TestCase):
  def test_ends(self):
    """The last are the model's logits, the first those of its embeddings."""
    params, inputs = drawn(CONFIG), tokens(CONFIG)
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
