"""Attention in plain JAX, tile by tile, equals the formulas."""

import functools

import jax
import numpy as np
from absl.testing import parameterized

from jaxlook.attention import blockwise
from jaxlook.attention.block_sizes import BlockLimits
from tests.fixtures import base
from tests.fixtures.attention_formulas import (
  SCALE,
  dense,
  dense_gradients,
  inputs,
  mask,
)

# One tile; panels of one tile; panels of several tiles; independent lanes.
WHOLE = BlockLimits()
PANELS = BlockLimits(one_panel=4, rows=4, columns=64, extents=3)
TILES = BlockLimits(one_panel=4, rows=4, columns=4, long_bytes=1, extents=2)
LANES = BlockLimits(short_bytes=1000, lanes=2)
CUTS = {"whole": WHOLE, "panels": PANELS, "tiles": TILES, "lanes": LANES}
# Ranges and length.
CASES = (
  (((0, 0),), 1),
  (((0, 18),), 19),
  (((0, 0),), 19),
  (((0, 3),), 19),
  (((2, 2),), 19),
  (((1, 18),), 19),
  (((0, 1), (4, 18)), 19),
  (((9, 13),), 19),
)

CAUSAL, FEW = ((0, 15),), ((0, 0), (3, 3))


class PanelsTest(base.Float64TestCase):
  @parameterized.parameters(
    *((case, "tiles") for case in CASES),
    *((case, cut) for case in CASES[2:4] for cut in ("whole", "panels")),
    *((case, "lanes") for case in CASES[4:6]),
  )
  def test_forward_and_backward_equal_the_formulas(self, case, cut):
    """This holds for all ranges and limits, also for queries without keys."""
    ranges, length = case
    query, key, value, grad = inputs(length, batch=4)
    whole = dense(query, key, value, ((0, length - 1),))
    arrays = query, key, value, *whole, grad
    static = dict(ranges=ranges, scale=SCALE, limits=CUTS[cut])

    @jax.jit
    def both(*arrays):
      return blockwise.forward(*arrays[:3], **static), blockwise.backward(
        *arrays,
        key_ranges=(ranges, ranges[-1:]),
        value_ranges=(ranges[-1:],),
        **static,
      )

    (out, lse), grads = both(*arrays)
    expected_out, expected_lse = dense(query, key, value, ranges)
    unseeing = ~mask(ranges, length).any(-1)
    self.assert_close(out, expected_out)
    np.testing.assert_array_equal(np.isneginf(lse).all((0, 1)), unseeing)
    self.assert_close(lse[..., ~unseeing], expected_lse[..., ~unseeing])
    to_query, to_key, _ = dense_gradients(*arrays, ranges)
    _, part_key, part_value = dense_gradients(*arrays, ranges[-1:])
    self.assert_close(grads, (to_query, (to_key, part_key), (part_value,)))

  def test_only_requested_gradients_are_computed(self):
    """Without a gradient of keys, the backward pass has four matmuls."""
    query, key, value, grad = inputs(9, batch=1)
    arrays = query, key, value, *dense(query, key, value, ((0, 8),)), grad
    run = functools.partial(
      blockwise.backward,
      ranges=((0, 8),),
      scale=SCALE,
      key_ranges=(),
      value_ranges=(((0, 8),),),
    )
    to_query, to_keys, (to_value,) = run(*arrays)
    expected_query, _, expected_value = dense_gradients(*arrays, ((0, 8),))
    self.assertEmpty(to_keys)
    self.assert_close((to_query, to_value), (expected_query, expected_value))
    self.assertEqual(str(jax.make_jaxpr(run)(*arrays)).count("dot_general["), 4)

  def test_a_separate_sweep_computes_only_what_it_needs(self):
    """Values add two matmuls, keys three, to those of the queries."""
    query, key, value, grad = inputs(16, batch=1)
    arrays = query, key, value, *dense(query, key, value, CAUSAL), grad

    def matmuls(keys, values):
      run = functools.partial(
        blockwise.backward,
        ranges=CAUSAL,
        scale=SCALE,
        key_ranges=keys,
        value_ranges=values,
        limits=TILES,
      )
      return str(jax.make_jaxpr(run)(*arrays)).count("dot_general[")

    plain = matmuls((), ())
    self.assertEqual(matmuls((), (FEW,)), plain + 2)
    self.assertEqual(matmuls((FEW,), ()), plain + 3)

  def test_tiles_without_visible_keys_are_skipped(self):
    """NaNs in keys that no query sees do not reach the output."""
    query, key, value, _ = inputs(64)
    key[:, :16], value[:, :16] = np.nan, np.nan
    out, _ = blockwise.forward(
      query, key, value, ranges=((0, 3),), scale=SCALE, limits=TILES
    )
    expected, _ = dense(query[:, 32:], key[:, 32:], value[:, 32:], ((0, 3),))
    self.assert_close(out[:, 35:], expected[:, 3:])
