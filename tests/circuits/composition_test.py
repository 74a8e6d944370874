"""Composition scores are norms of products; random weights have a baseline."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook import models
from jaxlook.circuits import composition, qk_ov, weights
from jaxlook.models import DecoderConfig
from tests.fixtures import base
from tests.fixtures.random_models import CONFIG, perturbed_init


class CompositionTest(base.Float64TestCase):
  def test_explicit_norms(self):
    """E3 of CLAIMS: scores equal Frobenius norms of the dense products."""
    found = weights.head_weights(CONFIG, perturbed_init(CONFIG))
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
    """An unknown kind is refused; the message lists the known ones."""
    found = weights.head_weights(CONFIG, perturbed_init(CONFIG))
    with self.assertRaisesRegex(ValueError, "kind must be one of .*'query'"):
      composition.composition(found, "residual")

  def test_random_weights_score_as_the_baseline(self):
    """Fresh Gaussian heads score within the baseline's spread, per kind."""
    config = DecoderConfig(2, 32, 4, 3, vocab_size=8, mlp_width=0)
    found = weights.head_weights(config, models.init(config, jax.random.key(3)))
    base_line = composition.random_baseline(jax.random.key(0), 32, 8, 200)
    for kind in ("query", "key", "value"):
      scores = composition.composition(found, kind)[0, :, 1]
      error = abs(scores.mean() - base_line.mean) / base_line.deviation
      self.assertLess(error, 1.0)
      self.assertGreater(scores.std(), 0.0)


if __name__ == "__main__":
  absltest.main()
