"""What written lines fit is told by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook.planning.couplets import writing
from jaxlook.tasks import couplets_language as language
from tests.fixtures import base


def _tokens(*names):
  return [language.NAMES.index(name) for name in names]


class FittingTest(base.Float64TestCase):
  def test_by_hand(self):
    """Classes 0 (topics 0 2 4 6, A0) and 1 (topics 1 2 4 6, A1 at j = 3)."""
    lines = [
      # Topics 1 and 2: r' alone, both; topic 2 is j = 1, article A0 of both.
      _tokens("m1.3", "m2.0", "A0", "w1.2"),
      # Topics 0 and 3: own alone, neither; j = 1 again, and the wrong article.
      _tokens("m0.0", "m3.7", "A1", "w0.0"),
      # Topic 7 fits neither, yet its j = 3 asks for A1 in class 1 alone.
      _tokens("m1.0", "m7.0", "A1", "w5.1"),
      # No modifiers, no article and no word.
      _tokens("NL", "A1", "w1.0", "A0"),
      # Not counted.
      _tokens("m1.0", "m1.0", "A0", "w1.0"),
      # A FREE line, whose two topics are own and r', and the article is own.
      _tokens("m1.0", "m0.0", "A0", "w0.1"),
    ]
    self.assertEqual(
      language.TOPIC_OF[:2].tolist(), [[0, 2, 4, 6], [1, 2, 4, 6]]
    )
    self.assertEqual(
      language.ARTICLE_OF[:2].tolist(), [[0, 0, 0, 0], [0, 0, 0, 1]]
    )
    found = jax.jit(writing.fit_shares)(
      jnp.asarray(lines),
      jnp.zeros(6, int),
      jnp.ones(6, int),
      np.array([True] * 4 + [False, True]),
      np.array([True] * 5 + [False]),
    )
    for fits, rhyming, free in (
      (found.ending, (0.25, 0.25, 0.0, 0.5), (0.0, 1.0, 0.0, 0.0)),
      (found.middle, (2 / 8, 1 / 8, 1 / 8, 4 / 8), (0.5, 0.5, 0.0, 0.0)),
      (found.article, (0.25, 0.0, 0.25, 0.5), (0.0, 0.0, 1.0, 0.0)),
    ):
      self.assert_close(np.stack(fits).T, np.array([rhyming, free]))
    self.assert_close(found.middle.decided, np.array([2 / 3, 0.5]))


if __name__ == "__main__":
  absltest.main()
