"""Losses of single tokens, and means of classes against plain loops."""

import jax
import numpy as np
from absl.testing import absltest

from jaxlook import models
from jaxlook.lookahead import token_gap
from jaxlook.lookahead.token_classes import TokenKind
from jaxlook.models import Decoder, DecoderConfig
from tests.fixtures import base


class LossesTest(base.Float64TestCase):
  def test_losses_are_those_of_each_seed_and_window(self):
    """Minus the log-probability of the next token; cuts do not matter."""
    config = DecoderConfig(1, 8, 2, max_length=5, vocab_size=7)
    keys = jax.random.split(jax.random.key(0), 2)
    params = jax.vmap(lambda key: models.init(config, key))(keys)
    params = jax.tree.map(lambda x: 20.0 * x.astype(float), params)
    windows = np.random.default_rng(0).integers(0, 7, (3, 2, 6))
    found = token_gap.token_losses(
      Decoder(config, "myopic/kv"), params, windows
    )
    self.assertEqual(found.shape, (2, 6, 5))
    flat = windows.reshape(6, 6)
    logits = jax.vmap(
      lambda one: models.apply(Decoder(config), one, flat[:, :-1])
    )(params)
    wanted = -np.take_along_axis(
      np.asarray(jax.nn.log_softmax(logits)),
      np.broadcast_to(flat[:, 1:, None], (2, 6, 5, 1)),
      axis=-1,
    )[..., 0]
    self.assert_close(found, wanted, atol=1e-6)
    self.assertGreater(np.ptp(wanted), 0.1)


class MeansTest(base.TestCase):
  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(1)
    self.values = rng.normal(size=(3, 20, 4))
    of = rng.integers(0, 3, (20, 4))
    self.kind = TokenKind("kind", ("a", "b", "c"), of)

  def test_class_means(self):
    """The mean of each class and seed; weighted by shares, of all."""
    found = token_gap.class_means(self.values, self.kind)
    for seed in range(3):
      for place in range(3):
        mine = self.values[seed][self.kind.token_class == place]
        self.assertAlmostEqual(found[seed, place], mine.mean())
    whole = found @ token_gap.class_shares(self.kind)
    np.testing.assert_allclose(whole, self.values.mean(axis=(1, 2)))
    np.testing.assert_allclose(
      token_gap.by_position(self.values), self.values.mean(axis=1)
    )

  def test_contrast(self):
    """Differences position by position, weighted by n m / (n + m)."""
    these, those = self.kind.mask("a"), self.kind.mask("b")
    these[:, 2] = False
    found = token_gap.contrast(self.values, these, those)
    for seed in range(3):
      top = bottom = 0.0
      for place in (0, 1, 3):
        a = self.values[seed, these[:, place], place]
        b = self.values[seed, those[:, place], place]
        weight = len(a) * len(b) / (len(a) + len(b))
        top += weight * (a.mean() - b.mean())
        bottom += weight
      self.assertAlmostEqual(found[seed], top / bottom)

  def test_contrast_is_blind_to_position(self):
    """What depends on the position alone makes no difference."""
    values = np.broadcast_to(np.array([0.0, 1.0, 5.0, 9.0]), (2, 20, 4))
    late = np.zeros((20, 4), bool)
    late[:5, 1] = late[:15, 3] = True
    np.testing.assert_allclose(
      token_gap.contrast(values, late, ~late), 0.0, atol=1e-12
    )
    self.assertGreater(values[0][late].mean() - values[0][~late].mean(), 3)
    nothing = token_gap.contrast(values, late, np.zeros_like(late))
    self.assertTrue(np.isnan(nothing).all())

  def test_costliest(self):
    """Half of the seeds choose, one token a window; the others measure."""
    gap = np.zeros((4, 5, 3))
    gap[:2, 3, 1], gap[:2, 3, 2], gap[:2, 0, 2] = 5.0, 4.0, 3.0
    gap[2:, 4, 0] = 9.0
    gap[2:, 3, 1] = [1.0, 2.0]
    found = token_gap.costliest_tokens(gap, 2)
    self.assertEqual(found.window.tolist(), [3, 0])
    self.assertEqual(found.position.tolist(), [1, 2])
    self.assertEqual(found.chosen.tolist(), [5.0, 3.0])
    self.assertEqual(found.gap.tolist(), [[1.0, 0.0], [2.0, 0.0]])
    self.assertLen(token_gap.costliest_tokens(gap, 99).window, 5)
    with self.assertRaisesRegex(ValueError, "two seeds are needed, not 1"):
      token_gap.costliest_tokens(gap[:1], 2)


if __name__ == "__main__":
  absltest.main()
