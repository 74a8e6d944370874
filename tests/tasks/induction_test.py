"""Segments are repeated as documented, and `copied` marks them."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.tasks.induction import Induction
from tests.fixtures import base

TASK = Induction(vocab_size=9, segment=5, max_gap=3, length=15)


class InductionTest(base.TestCase):
  def test_sequences(self):
    """A segment of distinct tokens occurs twice, with a gap of 0..3."""
    batch = TASK.batch(jax.random.key(0), 64)
    chex.assert_shape(list(batch), (64, 15))
    np.testing.assert_array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    copied = np.asarray(TASK.copied(batch))
    gaps = set()
    for row, truth in zip(np.asarray(batch.inputs), copied, strict=True):
      segment = row[:5]
      self.assertLen(set(segment), 5)
      starts = [s for s in range(5, 9) if (row[s : s + 5] == segment).all()]
      self.assertLen(starts, 1)
      gaps.add(starts[0] - 5)
      expected = np.zeros(15, bool)
      expected[starts[0] : starts[0] + 4] = True
      np.testing.assert_array_equal(truth, expected)
    self.assertEqual(gaps, {0, 1, 2, 3})

  def test_copied_targets_equal_the_first_segment(self):
    """The target is the token that follows in the first segment."""
    batch = TASK.batch(jax.random.key(1), 64)
    inputs, targets = np.asarray(batch.inputs), np.asarray(batch.targets)
    for b, i in np.argwhere(np.asarray(TASK.copied(batch))):
      place = inputs[b, :5].tolist().index(inputs[b, i])
      self.assertEqual(targets[b, i], inputs[b, place + 1])
      low, high = TASK.distances
      self.assertBetween(i - (place + 1), low, high)

  def test_levels(self):
    """Chance is ln V; the bound counts a segment of distinct tokens once."""
    self.assertAlmostEqual(TASK.chance, math.log(9))
    logits = jnp.zeros((2, 15, 9))
    batch = TASK.batch(jax.random.key(0), 2)
    np.testing.assert_allclose(TASK.loss(logits, batch), TASK.chance, rtol=1e-6)
    first = sum(math.log(9 - taken) for taken in range(1, 5))
    self.assertAlmostEqual(TASK.bound, (first + 6 * math.log(9)) / 15)

  @parameterized.parameters(
    ({"segment": 1}, "segment must lie in 2..9"),
    ({"segment": 10}, "segment must lie in 2..9"),
    ({"max_gap": -1}, "max_gap must be at least 0"),
    ({"length": 12}, "length must be at least 13"),
  )
  def test_bad_fields_are_refused(self, changes, message):
    """The error names the field."""
    fields = {"vocab_size": 9, "segment": 5, "max_gap": 3, "length": 15}
    with self.assertRaisesRegex(ValueError, message):
      Induction(**fields | changes)


if __name__ == "__main__":
  absltest.main()
