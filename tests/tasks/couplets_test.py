"""Couplets follow the rules of their language, checked token by token."""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets
from tests.fixtures import base

_ARMS = {
  "lookup": Couplets(p=0.6),
  "tally": Couplets(p=0.6, key="tally", route="open", late_genre=True),
  "end-only": Couplets(p=0.6, end_only=True, fillers=2, modifiers=1),
}
_COUNT = 4096


@functools.cache
def _draw_batch(arm):
  """Draws a batch of an arm, with its hidden variables."""
  task = _ARMS[arm]

  @jax.jit
  def draw(key):
    batch = task.batch(key, _COUNT)
    return batch, task.truth(batch)

  return jax.tree.map(np.asarray, draw(jax.random.key(0)))


def _bit(number, place):
  return number // 2**place % 2


def _key_of(task, line1, end_word):
  """Computes the key from the names of line 1's tokens."""
  if task.key == "lookup":
    return int(end_word[1:].split(".")[0])
  tables, key = language.tally_tables(), 0
  for k in range(4):
    total = 0
    for a, b in zip(line1[::2], line1[1::2], strict=True):
      total += tables[k][int(a[1:])][int(b[1:])]
    key += 2**k * (total > 0)
  return key


def _check(test, task, names):
  """Checks one couplet by the rules; returns its hidden variables."""
  test.assertEqual(names[0], "BOS")
  test.assertEqual(names[-1], "EOS")
  line1, rest = names[2 : 2 + task.line1], names[2 + task.line1 :]
  if task.key == "lookup":
    test.assertEqual({name[0] for name in line1}, {"f"})
  else:
    test.assertEqual("".join(n[0] for n in line1), "ab" * task.pairs)
  first, newline, second = rest[:3]
  test.assertEqual(newline, "NL")
  genre, neutral = names[1], second
  if task.late_genre:
    genre, neutral = neutral, genre
  test.assertEqual(neutral, "U")
  test.assertIn(genre, ("RHY", "FREE"))
  key = _key_of(task, line1, first)
  *modifiers, article, last = rest[3:-1]
  test.assertLen(modifiers, task.modifiers)
  test.assertLen({m.split(".")[0] for m in modifiers}, 1)
  topic, article = int(modifiers[0][1:].split(".")[0]), int(article[1:])
  end, j = (int(part) for part in last[1:].split("."))
  if genre == "RHY":
    test.assertEqual(end, key)
  if not task.end_only:
    test.assertEqual(topic, 2 * j + _bit(end, j))
    test.assertEqual(article, _bit(end, (j + 1) % 4))
  return genre == "RHY", key, end, topic, article


class CoupletsTest(base.TestCase):
  @parameterized.parameters(*_ARMS)
  def test_rules(self, arm):
    """Every couplet follows the rules, and `truth` is right."""
    task, (batch, truth) = _ARMS[arm], _draw_batch(arm)
    chex.assert_shape(list(batch), (_COUNT, task.length))
    chex.assert_type(list(batch), jnp.int32)
    np.testing.assert_array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    for row in range(256):
      tokens = [batch.inputs[row, 0], *batch.targets[row]]
      read = _check(self, task, [language.NAMES[token] for token in tokens])
      self.assertEqual(read, tuple(part[row].item() for part in truth))

  @parameterized.parameters(*_ARMS)
  def test_distributions(self, arm):
    """Couplets rhyme with probability p; keys, ends and tokens are uniform."""
    task, (batch, truth) = _ARMS[arm], _draw_batch(arm)
    noise = 5 * math.sqrt(0.25 / _COUNT)
    self.assertAlmostEqual(truth.rhymes.mean(), 0.6, delta=noise)
    by_class = np.bincount(truth.key[truth.rhymes], minlength=16)
    self.assertLess(np.abs(by_class / by_class.sum() - 1 / 16).max(), noise)
    free = ~truth.rhymes
    pairs = 16 * truth.key[free] + truth.end[free]
    counts, even = np.bincount(pairs, minlength=256), free.sum() / 256
    # Chi-squared with 255 degrees of freedom, five standard deviations.
    surprise = ((counts - even) ** 2 / even).sum()
    self.assertLess(surprise, 255 + 5 * math.sqrt(2 * 255))
    for name, kinds in (("e1", 64), ("e2", 64), ("m1", 64), ("art", 2)):
      here = batch.targets[:, task.targets[name][0]]
      counts = np.unique_counts(here).counts
      self.assertLen(counts, kinds)
      self.assertLess(np.abs(counts / _COUNT - 1 / kinds).max(), noise)

  def test_end_only_modifiers_are_independent_of_the_end(self):
    """Topics and articles occur with every class, also in rhymes."""
    _, truth = _draw_batch("end-only")
    seen = np.zeros((16, 8, 2), bool)
    seen[truth.end, truth.topic, truth.article] = True
    self.assertTrue(seen.all())
    _, truth = _draw_batch("lookup")
    seen[:] = False
    seen[truth.end, truth.topic, truth.article] = True
    self.assertEqual(seen.sum(), 64)

  @parameterized.parameters(*_ARMS)
  def test_places(self, arm):
    """Classes cover a couplet; `targets` are one position to the left."""
    task, (batch, _) = _ARMS[arm], _draw_batch(arm)
    covered = [place for places in task.places.values() for place in places]
    self.assertEqual(covered, list(range(task.length + 1)))
    first = {"genre": "RF", "U": "U", "NL": "N", "m1": "m", "art": "A"}
    for name, letters in (first | {"e1": "w", "e2": "w", "EOS": "E"}).items():
      for token in batch.targets[:64, list(task.targets[name])].ravel():
        self.assertIn(language.NAMES[token][0], letters)
    self.assertLen(task.targets["line1"], task.line1)

  def test_routes(self):
    """The bottleneck hides line 1 from line 2; NL stays visible."""
    task = _ARMS["lookup"]
    visible, places = task.visible(), task.places
    (newline,), (after,) = places["NL"], places["U"]
    for i, j in np.ndindex(task.length, task.length):
      allowed = j <= i and (i < after or j >= newline)
      self.assertEqual(visible[i, j], allowed)
    opened = dataclasses.replace(task, route="open")
    self.assertIsNone(opened.barrier)
    np.testing.assert_array_equal(
      opened.visible(), np.tri(task.length, dtype=bool)
    )
    late = dataclasses.replace(task, late_genre=True)
    np.testing.assert_array_equal(late.visible(), visible)
    self.assertEqual(late.places["genre"], (after,))

  def test_batches_depend_on_the_key(self):
    """A key gives the same batch under `vmap`; another key gives another."""
    task = _ARMS["lookup"]
    several = jax.jit(
      jax.vmap(lambda seed: task.batch(jax.random.key(seed), _COUNT, None))
    )(jnp.arange(2))
    first, second = (jax.tree.map(lambda x, i=i: x[i], several) for i in (0, 1))
    chex.assert_trees_all_equal(first, _draw_batch("lookup")[0])
    self.assertTrue((first.inputs != second.inputs).any())

  def test_loss(self):
    """Equal logits cost ln V at every position."""
    task = _ARMS["lookup"]
    batch = jax.tree.map(lambda x: x[:2], _draw_batch("lookup")[0])
    logits = np.zeros((2, task.length, task.vocab_size), np.float32)
    loss = jax.jit(task.loss)(logits, batch)
    np.testing.assert_allclose(loss, math.log(task.vocab_size), rtol=1e-6)

  @parameterized.parameters(
    ({"p": 1.5}, r"p must lie in \[0, 1\], not 1.5"),
    ({"key": "sum"}, "key must be one of lookup, tally, not 'sum'"),
    ({"route": "shut"}, "route must be one of open, bottleneck, not 'shut'"),
    ({"fillers": -1}, "fillers must be at least 0, not -1"),
    ({"pairs": 4}, "pairs must be odd, so that a tally has no ties, not 4"),
    ({"modifiers": 0}, "modifiers must be at least 1, not 0"),
  )
  def test_bad_fields_are_refused(self, changes, message):
    """The error names the field."""
    with self.assertRaisesRegex(ValueError, message):
      Couplets(**changes)


if __name__ == "__main__":
  absltest.main()
