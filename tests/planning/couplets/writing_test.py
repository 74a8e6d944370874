"""Lines are parsed correctly; which class they fit is checked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.planning.couplets import places, writing
from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets
from tests.fixtures import base


def _tokens(*names):
  return [language.NAMES.index(name) for name in names]


class FitSharesTest(base.Float64TestCase):
  def test_by_hand(self):
    """Classes 0 (topics 0 2 4 6, A0) and 1 (topics 1 2 4 6, A1 at j = 3)."""
    lines = [
      # Topic 1 fits r' only, topic 2 fits both; at j = 1 both have article A0.
      _tokens("m1.3", "m2.0", "A0", "w1.2"),
      # Topic 0 fits own only, topic 3 fits neither; A1 is wrong at j = 1.
      _tokens("m0.0", "m3.7", "A1", "w0.0"),
      # Topic 7 fits neither, but at its j = 3 only class 1 has article A1.
      _tokens("m1.0", "m7.0", "A1", "w5.1"),
      # No modifiers, no article and no word.
      _tokens("NL", "A1", "w1.0", "A0"),
      # Not counted.
      _tokens("m1.0", "m1.0", "A0", "w1.0"),
      # A FREE line: topic 1 fits r', topic 0 fits own.
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


@jax.jit
def _read(tokens, key):
  line = writing.read_line(tokens)
  return line, writing.leads_to(line, key)


class ReadLineTest(base.TestCase):
  @parameterized.parameters(False, True)
  def test_lines_of_the_language(self, end_only):
    """Couplets of the task are well formed and match the truth."""
    task = Couplets(p=1.0, end_only=end_only, modifiers=2)
    batch = jax.jit(task.batch, static_argnums=1)(jax.random.key(0), 64)
    tokens = jnp.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
    start = places.line2(task)
    tokens = tokens[:, start : start + writing.line_length(task)]
    truth = jax.jit(task.truth)(batch)
    line, leads = _read(tokens, truth.key)
    np.testing.assert_array_equal(line.end, truth.end)
    np.testing.assert_array_equal(line.topics[:, 0], truth.topic)
    np.testing.assert_array_equal(line.article, truth.article)
    self.assertTrue(
      jax.jit(writing.well_formed, static_argnums=0)(task, line).all()
    )
    # In end-only lines m1 is random, so half of the topics fit by chance.
    self.assertEqual(bool(leads.all()), not end_only)

  def test_malformed_lines(self):
    """Another topic, article or word, or a token of the wrong kind."""
    task = Couplets(p=1.0, modifiers=2)
    word = 4 * 5 + 1  # class 5 = 0b0101, j = 1: topic 2 + 0, article bit_2 = 1
    topic, article = 2, 1
    good = [language.MODIFIER + 8 * topic, language.MODIFIER + 8 * topic + 7]
    good += [language.ARTICLE + article, language.WORD + word]
    changes = {0: language.MODIFIER, 1: language.BOS, 2: language.ARTICLE}
    changes |= {3: language.WORD + word + 1}
    rows = [good]
    for place, token in changes.items():
      rows.append([*good[:place], token, *good[place + 1 :]])
    line, leads = _read(jnp.array(rows), jnp.full(5, 5))
    formed = jax.jit(writing.well_formed, static_argnums=0)(task, line)
    self.assertEqual(formed.tolist(), [True, False, False, False, False])
    self.assertEqual(line.topics[2].tolist(), [topic, -1])
    self.assertEqual(line.end.tolist(), [5] * 5)
    self.assertEqual(leads.tolist(), [True, False, True, True, True])


if __name__ == "__main__":
  absltest.main()
