"""The running top k equals a full sort; endings are counted as by hand."""

import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.circuits.memory_triggers import (
  distinct_prefixes,
  endings,
  merge_triggers,
  no_triggers,
  patterns,
)
from tests.fixtures import base

BATCHES, BATCH, LENGTH, NEURONS = 3, 2, 4, 5
PREFIXES = BATCHES * BATCH * LENGTH


class MergeTest(base.Float64TestCase):
  @parameterized.parameters((2, 7), (3, 3), (None, 7), (3, PREFIXES + 2))
  def test_equals_sorting_everything(self, values, top):
    """Equal values keep their order; missing entries are marked with -1."""
    rng = np.random.default_rng(0)
    shape = (2, BATCHES * BATCH, LENGTH, NEURONS)
    all_LxWxTxF = rng.normal(size=shape)
    if values is not None:
      # Few different values: nearly all are ties.
      all_LxWxTxF = rng.integers(0, values, shape).astype(np.float64)
    counted = rng.random(shape[1:3]) < 0.8
    found = no_triggers((2, NEURONS), top, jnp.float64)
    for first in range(0, BATCHES * BATCH, BATCH):
      part = slice(first, first + BATCH)
      found = merge_triggers(
        found,
        jnp.asarray(all_LxWxTxF[:, part]),
        first,
        jnp.asarray(counted[part]),
      )
    left = np.where(counted[..., None], all_LxWxTxF, -np.inf)
    flat = np.moveaxis(left.reshape(2, -1, NEURONS), 1, 2)
    kept = min(top, counted.sum())
    order = np.argsort(-flat, axis=-1, kind="stable")[..., :kept]
    np.testing.assert_array_equal(
      found.coefficient[..., :kept], np.take_along_axis(flat, order, -1)
    )
    np.testing.assert_array_equal(found.window[..., :kept], order // LENGTH)
    np.testing.assert_array_equal(found.position[..., :kept], order % LENGTH)
    for place in (found.window, found.position):
      np.testing.assert_array_equal(place[..., kept:], -1)
    self.assertFalse(np.any(found.fired[..., kept:]))

  def test_distinct_prefixes(self):
    """Only the first of equal prefixes is marked, compared with a set."""
    windows = np.random.default_rng(1).integers(0, 2, (20, 6))
    seen, expected = set(), np.zeros(windows.shape, bool)
    for place in np.ndindex(windows.shape):
      prefix = tuple(windows[place[0], : place[1] + 1])
      expected[place] = prefix not in seen
      seen.add(prefix)
    self.assertBetween(expected.mean(), 0.2, 0.8)
    np.testing.assert_array_equal(distinct_prefixes(windows), expected)


class PatternsTest(base.TestCase):
  def test_endings(self):
    """The last token comes first; -1 before a window's start."""
    windows = jnp.array([[5, 6, 7], [1, 2, 3]])
    ends = endings(windows, jnp.array([[0, 1]]), jnp.array([[2, 0]]), 2)
    np.testing.assert_array_equal(ends, [[[7, 6], [1, -1]]])

  def test_patterns(self):
    """Three equal endings are a pattern, two are not; only fired ones count."""
    last = jnp.array([[1, 2, 1, 2, 1, 2, 2], [1, 1, 3, 4, 1, 1, 1], [9] * 7])
    fired = jnp.array([[True] * 7, [True] * 4 + [False] * 3, [False] * 7])
    found = patterns(last[..., None], fired)
    self.assert_close(found.purity, jnp.array([4 / 7, 2 / 4, 0.0]), 1e-6)
    self.assert_close(found.coverage, jnp.array([1.0, 0.0, 0.0]), 1e-6)
    self.assert_close(found.number, jnp.array([2.0, 0.0, 0.0]), 1e-6)
    # For endings of two tokens both must be equal.
    other = jnp.stack([last, jnp.arange(21).reshape(3, 7)], axis=-1)
    self.assert_close(
      patterns(other, fired).purity, jnp.array([1 / 7, 1 / 4, 0.0]), 1e-6
    )


if __name__ == "__main__":
  absltest.main()
