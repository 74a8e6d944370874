"""Second lines are read as the language writes them."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlook.planning.couplets import places, writing
from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets
from tests.fixtures import base


@jax.jit
def _read(tokens, key):
  line = writing.read_line(tokens)
  return line, writing.leads_to(line, key)


class LinesTest(base.TestCase):
  @parameterized.parameters(False, True)
  def test_lines_of_the_language(self, end_only):
    """All of them are well formed, and say what the truth says."""
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
    # An end-only line leads nowhere: by chance half of the topics fit.
    self.assertEqual(bool(leads.all()), not end_only)

  def test_what_is_no_line(self):
    """Other topics, articles, words, or no such tokens at all."""
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
