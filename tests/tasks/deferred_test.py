"""Deferred sums equal a loop, and chance equals counts."""

import collections
import functools
import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.tasks.deferred import Deferred
from jaxlook.tasks.task import Batch
from tests.fixtures import base

_TASKS = {
  "one": Deferred(delay=3, length=12),
  "now": Deferred(delay=0, terms=1, length=12, p=0.25),
  "many": Deferred(delay=2, terms=3, tokens=4, values=2, length=12),
}
_COUNT = 2048


@functools.cache
def _draw_batch(name):
  draw = jax.jit(_TASKS[name].batch, static_argnums=1)
  return jax.tree.map(np.asarray, draw(jax.random.key(0), _COUNT))


class DeferredTest(base.TestCase):
  @parameterized.parameters(*_TASKS)
  def test_targets(self, name):
    """The target is the sum where it is asked for, else the token."""
    task, batch = _TASKS[name], _draw_batch(name)
    chex.assert_shape(list(batch), (_COUNT, 12))
    chex.assert_type(list(batch), jnp.int32)
    table, x = task.table(), batch.inputs % task.tokens
    asked = batch.inputs >= task.tokens
    self.assertFalse(asked[:, : task.delay + task.terms].any())
    for row, t in np.ndindex(128, 12):
      if asked[row, t]:
        expected = 0
        for i in range(task.terms):
          end = t - task.delay - i
          self.assertGreater(end, 0)
          expected += table[x[row, end], x[row, end - 1]]
      else:
        expected = x[row, t]
      self.assertEqual(batch.targets[row, t], expected)

  @parameterized.parameters(*_TASKS)
  def test_inputs(self, name):
    """Tokens are uniform; sums are asked for with probability p."""
    task, batch = _TASKS[name], _draw_batch(name)
    asked = (batch.inputs >= task.tokens)[:, task.first :]
    noise = 5 * math.sqrt(task.p * (1 - task.p) / asked.size)
    self.assertAlmostEqual(asked.mean(), task.p, delta=noise)
    share = np.bincount((batch.inputs % task.tokens).ravel()) / (12 * _COUNT)
    self.assertLen(share, task.tokens)
    noise = 5 * math.sqrt(1 / task.tokens / (12 * _COUNT))
    self.assertLess(np.abs(share - 1 / task.tokens).max(), noise)
    self.assertLess(batch.inputs.max(), task.vocab_size)
    self.assertLess(batch.targets.max(), task.vocab_size)

  @parameterized.parameters((8, 4), (6, 2), (5, 5), (4, 2))
  def test_table(self, tokens, values):
    """Values are equally frequent in rows and columns; seeds differ."""
    task = Deferred(tokens=tokens, values=values)
    table = task.table()
    for line in (*table, *table.T):
      counts = np.bincount(line, minlength=values)
      np.testing.assert_array_equal(counts, tokens // values)
    others = [
      Deferred(tokens=tokens, values=values, table_seed=seed).table()
      for seed in range(1, 4)
    ]
    self.assertTrue(any((table != other).any() for other in others))

  @parameterized.parameters((4, 2, 1), (4, 2, 3), (3, 3, 2), (4, 4, 2))
  def test_chance(self, tokens, values, terms):
    """Chance is the entropy of answers, counted over all sequences."""
    task = Deferred(tokens=tokens, values=values, terms=terms)
    table, counts = task.table(), collections.Counter()
    by_newest = collections.defaultdict(collections.Counter)
    for x in itertools.product(range(tokens), repeat=terms + 1):
      answer = sum(table[b, a] for a, b in itertools.pairwise(x))
      counts[int(answer)] += 1
      by_newest[x[-1]][int(answer)] += 1
    self.assertLess(max(counts), task.answers)
    share = np.array(list(counts.values())) / counts.total()
    entropy = -(share * np.log(share)).sum()
    self.assertAlmostEqual(task.asked_chance, entropy)
    # The newest token alone carries no information.
    for answers in by_newest.values():
      self.assertEqual(
        {answer: tokens * count for answer, count in answers.items()}, counts
      )

  def test_levels(self):
    """Chance is ln C where one pair is asked for, and 0 for copies."""
    task = _TASKS["one"]
    self.assertAlmostEqual(task.asked_chance, math.log(4))
    self.assertAlmostEqual(task.chance, 0.5 * 8 / 12 * math.log(4))
    batch = Batch(*(x[:256] for x in _draw_batch("one")))
    asked = batch.inputs >= 8
    np.testing.assert_array_equal(task.asked(batch), asked)
    one_hot, loss = 1e9 * np.eye(16, dtype=np.float32), jax.jit(task.loss)
    guess = np.where(np.arange(16) < 4, 0.0, -1e9).astype(np.float32)
    logits = np.where(asked[..., None], guess, one_hot[batch.inputs])
    losses = np.asarray(loss(logits, batch))
    np.testing.assert_allclose(losses[asked], math.log(4), rtol=1e-6)
    np.testing.assert_array_equal(losses[~asked], 0.0)
    self.assertEqual(loss(one_hot[batch.targets], batch).max(), task.bound)

  @parameterized.parameters(
    ({"p": -0.5}, r"p must lie in \[0, 1\], not -0.5"),
    ({"delay": -1}, "delay must be at least 0, not -1"),
    ({"terms": 0}, "terms must be at least 1, not 0"),
    ({"values": 1}, "values must be at least 2, not 1"),
    ({"tokens": 6}, "tokens must be a multiple of 4, the number of values"),
    (
      {"length": 5},
      "length must be at least 6 for a delay of 4 and 1 term, not 5",
    ),
    ({"table_seed": -1}, "table_seed must be at least 0, not -1"),
  )
  def test_bad_fields_are_refused(self, changes, message):
    """The error names the field."""
    with self.assertRaisesRegex(ValueError, message):
      Deferred(**changes)


if __name__ == "__main__":
  absltest.main()
