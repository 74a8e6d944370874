"""Attention in plain JAX, tile by tile, against the formulas."""

import functools

import jax
import numpy as np
from absl.testing import parameterized

from jaxlook.attention import blockwise
from jaxlook.attention.block_sizes import Limits
from tests.fixtures import base
from tests.fixtures.attention_formulas import (
  SCALE,
  dense,
  dense_gradients,
  inputs,
  mask,
)

# One tile; panels of one tile; tiles of panels, of a few sequences and heads.
WHOLE = Limits()
PANELS = Limits(one_panel=4, rows=4, columns=64, extents=3)
TILES = Limits(one_panel=4, rows=4, columns=4, long_bytes=1, extents=2)
LANES = Limits(short_bytes=1000, lanes=2)
CUTS = {"whole": WHOLE, "panels": PANELS, "tiles": TILES, "lanes": LANES}
# Set and length.
SETS = (
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
    *((case, "tiles") for case in SETS),
    *((case, cut) for case in SETS[2:4] for cut in ("whole", "panels")),
    *((case, "lanes") for case in SETS[4:6]),
  )
  def test_forward_and_backward_are_the_formulas(self, case, cut):
    """Whatever the set and however it is cut, with rows that have no pair."""
    pairs, length = case
    query, key, value, grad = inputs(length, batch=4)
    whole = dense(query, key, value, ((0, length - 1),))
    arrays = query, key, value, *whole, grad
    static = dict(pairs=pairs, scale=SCALE, limits=CUTS[cut])

    @jax.jit
    def both(*arrays):
      return blockwise.forward(*arrays[:3], **static), blockwise.backward(
        *arrays,
        key_pairs=(pairs, pairs[-1:]),
        value_pairs=(pairs[-1:],),
        **static,
      )

    (out, lse), found = both(*arrays)
    expected_out, expected_lse = dense(query, key, value, pairs)
    alone = ~mask(pairs, length).any(-1)
    self.assert_close(out, expected_out)
    np.testing.assert_array_equal(np.isneginf(lse).all((0, 1)), alone)
    self.assert_close(lse[..., ~alone], expected_lse[..., ~alone])
    to_query, to_key, _ = dense_gradients(*arrays, pairs)
    _, some_key, some_value = dense_gradients(*arrays, pairs[-1:])
    self.assert_close(found, (to_query, (to_key, some_key), (some_value,)))

  def test_only_what_is_wanted(self):
    """Where no key learns no such gradient is formed: four matmuls."""
    query, key, value, grad = inputs(9, batch=1)
    arrays = query, key, value, *dense(query, key, value, ((0, 8),)), grad
    run = functools.partial(
      blockwise.backward,
      pairs=((0, 8),),
      scale=SCALE,
      key_pairs=(),
      value_pairs=(((0, 8),),),
    )
    to_query, to_keys, (to_value,) = run(*arrays)
    expected_query, _, expected_value = dense_gradients(*arrays, ((0, 8),))
    self.assertEmpty(to_keys)
    self.assert_close((to_query, to_value), (expected_query, expected_value))
    self.assertEqual(str(jax.make_jaxpr(run)(*arrays)).count("dot_general["), 4)

  def test_a_set_swept_alone_forms_what_it_needs(self):
    """Two matmuls for values, three for keys, beside the queries' three."""
    query, key, value, grad = inputs(16, batch=1)
    arrays = query, key, value, *dense(query, key, value, CAUSAL), grad

    def matmuls(keys, values):
      run = functools.partial(
        blockwise.backward,
        pairs=CAUSAL,
        scale=SCALE,
        key_pairs=keys,
        value_pairs=values,
        limits=TILES,
      )
      return str(jax.make_jaxpr(run)(*arrays)).count("dot_general[")

    plain = matmuls((), ())
    self.assertEqual(matmuls((), (FEW,)), plain + 2)
    self.assertEqual(matmuls((FEW,), ()), plain + 3)

  def test_tiles_without_a_pair_are_not_visited(self):
    """NaN beyond a narrow set's reach do not show: nobody looked there."""
    query, key, value, _ = inputs(64)
    key[:, :16], value[:, :16] = np.nan, np.nan
    out, _ = blockwise.forward(
      query, key, value, pairs=((0, 3),), scale=SCALE, limits=TILES
    )
    expected, _ = dense(query[:, 32:], key[:, 32:], value[:, 32:], ((0, 3),))
    self.assert_close(out[:, 35:], expected[:, 3:])
