"""Narrow ranges of distances equal the formulas."""

import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlook.attention import banded
from tests.fixtures import base
from tests.fixtures.attention_formulas import (
  SCALE,
  dense,
  dense_gradients,
  inputs,
)


def heads_first(x):
  """Transposes [B, T, N, H] to [B, N, T, H]."""
  return jnp.swapaxes(jnp.asarray(x), 1, 2)


class BandTest(base.Float64TestCase):
  @parameterized.parameters(
    (((0, 0),), 7),
    (((3, 3),), 7),
    (((9, 9),), 7),
    (((0, 8),), 40),
    (((0, 16),), 40),
    (((5, 12),), 40),
    (((0, 1),), 1),
    (((30, 45),), 40),
  )
  def test_gradients_equal_the_formula(self, ranges, length):
    """Gradients are exact for one distance and for bands, at any length."""
    query, key, value, grad = inputs(length)
    out, lse = dense(query, key, value, ((0, length - 1),))
    delta = np.sum(out * grad, axis=-1, keepdims=True)
    to_query, to_key, to_value = banded.backward(
      SCALE * heads_first(query),
      *(heads_first(key), heads_first(value)),
      *(jnp.asarray(lse)[..., None], heads_first(delta), heads_first(grad)),
      ranges=ranges,
    )
    expected_query, expected_key, expected_value = dense_gradients(
      *(query, key, value, out, lse, grad), ranges
    )
    self.assert_close(SCALE * to_query, heads_first(expected_query))
    self.assert_close(to_key, heads_first(expected_key))
    self.assert_close(to_value, heads_first(expected_value))

  @parameterized.parameters(0, 2, 9)
  def test_one_distance_returns_the_shifted_value(self, distance):
    """The output is the value at that distance, the log-sum-exp its score."""
    query, key, value, _ = inputs(7)
    out, lse = banded.read_one(
      SCALE * heads_first(query), heads_first(key), heads_first(value), distance
    )
    expected, expected_lse = dense(query, key, value, ((distance, distance),))
    self.assert_close(out, heads_first(expected))
    np.testing.assert_allclose(lse[..., 0], expected_lse, atol=base.EXACT)

  @parameterized.parameters(
    (((0, 0),), 8, True),
    (((4, 4),), 8, True),
    (((0, 8),), 64, False),
    (((0, 8),), 128, True),
    (((0, 200),), 2**14, False),
    (((1, 2**14 - 1),), 2**14, False),
    (((0, 0), (3, 3)), 64, False),
  )
  def test_pays_off_where_it_is_cheaper(self, ranges, length, expected):
    """True for one distance and for narrow bands; false for two ranges."""
    self.assertEqual(banded.pays_off(ranges, length), expected)

  @parameterized.parameters(-9, -2, 0, 3, 7, 20)
  def test_shift(self, distance):
    """Position t - distance moves to t; zeros enter at the ends."""
    x = np.arange(1.0, 8.0).reshape(1, 1, 7, 1)
    expected = [
      float(t - distance + 1) if 0 <= t - distance < 7 else 0.0
      for t in range(7)
    ]
    found = banded.shift(jnp.asarray(x), distance)
    np.testing.assert_array_equal(found.ravel(), expected)
