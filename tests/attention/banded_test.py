"""Narrow sets of distances against the formulas."""

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


def turned(x):
  """[B, T, N, H] as [B, N, T, H]."""
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
  def test_gradients_are_the_formula(self, pairs, length):
    """One distance by shifting, several by blocks, at any length."""
    query, key, value, grad = inputs(length)
    out, lse = dense(query, key, value, ((0, length - 1),))
    delta = np.sum(out * grad, axis=-1, keepdims=True)
    to_query, to_key, to_value = banded.backward(
      SCALE * turned(query),
      *(turned(key), turned(value)),
      *(jnp.asarray(lse)[..., None], turned(delta), turned(grad)),
      pairs=pairs,
    )
    expected_query, expected_key, expected_value = dense_gradients(
      *(query, key, value, out, lse, grad), pairs
    )
    self.assert_close(SCALE * to_query, turned(expected_query))
    self.assert_close(to_key, turned(expected_key))
    self.assert_close(to_value, turned(expected_value))

  @parameterized.parameters(0, 2, 9)
  def test_one_distance_is_read_by_shifting(self, distance):
    """The output is the value there, the log-sum-exp its score."""
    query, key, value, _ = inputs(7)
    out, lse = banded.read_one(
      SCALE * turned(query), turned(key), turned(value), distance
    )
    expected, expected_lse = dense(query, key, value, ((distance, distance),))
    self.assert_close(out, turned(expected))
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
  def test_suits_where_it_is_cheaper(self, pairs, length, suits):
    """A single distance always; few of many; never two ranges."""
    self.assertEqual(banded.suits(pairs, length), suits)

  @parameterized.parameters(-9, -2, 0, 3, 7, 20)
  def test_shift(self, distance):
    """What stood at t - distance comes to t, zeros from beyond the ends."""
    x = np.arange(1.0, 8.0).reshape(1, 1, 7, 1)
    expected = [
      float(t - distance + 1) if 0 <= t - distance < 7 else 0.0
      for t in range(7)
    ]
    found = banded.shift(jnp.asarray(x), distance)
    np.testing.assert_array_equal(found.ravel(), expected)
