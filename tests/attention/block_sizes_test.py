"""Sizes of the steps into which work is cut."""

import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlook.attention import block_sizes
from jaxlook.attention.block_sizes import BlockLimits
from tests.fixtures import base


class PlanTest(base.TestCase):
  @parameterized.parameters(
    ((512, 64, 2, 64), 64, 4 * 64 * 64),
    ((7, 64, 3, 8), 64, 4 * 64 * 64),
    ((4, 1024, 8, 64), 256, 4 * 256 * 1024),
    ((1, 16384, 2, 64), 256, 4 * 256 * 1024),
    ((1, 257, 1, 8), 129, 4 * 129 * 257),
  )
  def test_steps_divide_the_work_and_fit(self, shape, rows, scores):
    """Steps divide batch and heads, and their scores fit the limits."""
    limits = BlockLimits()
    cut = block_sizes.plan(shape, ((0, shape[1] - 1),), limits)
    self.assertEqual(cut.rows, rows)
    self.assertEqual(shape[0] % cut.batch, 0)
    self.assertEqual(shape[2] % cut.heads, 0)
    self.assertEqual(cut.batch % cut.lanes, 0)
    room = max(limits.long_bytes, limits.short_bytes, scores)
    self.assertLessEqual(cut.batch * cut.heads * scores, room)

  @parameterized.parameters(
    block_sizes.BlockPlan(5, 6, 4, 1),
    block_sizes.BlockPlan(5, 2, 4, 2),
    block_sizes.BlockPlan(5, 6, 2, 3),
    block_sizes.BlockPlan(5, 1, 1, 1),
  )
  def test_every_sequence_and_head_is_computed_once(self, cut):
    """For any block sizes, every result is at its place."""
    x, y = (
      jnp.asarray(np.random.default_rng(3).normal(size=(6, 5, 4, n)))
      for n in (3, 1)
    )

    def function(x, y):
      return jnp.cumsum(x * y, axis=2), y + 1.0

    found = block_sizes.by_step(function, (x, y), cut)
    self.assert_close(found[0], jnp.cumsum(x * y, axis=1), atol=1e-6)
    self.assert_close(found[1], y + 1.0, atol=0.0)

  def test_varying_keeps_values(self):
    """The constant keeps its value, even if the arrays are not finite."""
    x = jnp.full((2, 3), -jnp.inf)
    found = block_sizes.varying(x, [jnp.full((1, 2), jnp.nan)])
    np.testing.assert_array_equal(found, x)
