"""What every test shares: strict rank promotion, base classes, the variants.

Importing this module turns silent rank promotion into an error for the whole
test process, so that a forgotten axis fails instead of broadcasting, and gives
the process two CPU devices, so that sharding over seeds is tested everywhere.
The compiler's optimisations are off: they double the time of the tests, most
of which goes into compiling tiny programs. CI runs the laws of the fused path
and the oracle with them, too: JAX_DISABLE_MOST_OPTIMIZATIONS=0 leaves them on.
"""

import contextlib
import os
from unittest import mock

import chex
import jax
import numpy as np
from absl.testing import parameterized

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)
if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
  jax.config.update("jax_disable_most_optimizations", True)

# Every variant of the table in the README, one line each; the common suites
# run over this list, so a new variant is one more line here.
GRADIENT_ONLY = (
  "causal",
  "myopic",
  "myopic/keys",
  "myopic/values",
  "myopic/residual",
  "horizon:0",
  "horizon:2",
  "horizon:2/residual/keys",
  "horizon:40",
  "offset:0",
  "offset:3",
  "offset:2/values",
  "future_only",
  "future_only/residual",
  "leak:0",
  "leak:0.3",
  "leak:0.3/residual",
  "leak:1",
)
OTHER_FORWARD = (
  "self_only",
  "window:2",
  "zero_context",
  "zero_context/keys",
  "teacher",
  "teacher/residual",
)
VARIANTS = GRADIENT_ONLY + OTHER_FORWARD

# Rounding of float64 sums of some hundred terms of size one.
EXACT = 1e-12


@contextlib.contextmanager
def loops_unrolled():
  """Runs the bodies of `fori_loop` in Python, to look into them."""

  def loop(first, last, body, carry):
    for index in range(first, last):
      carry = body(index, carry)
    return carry

  with mock.patch.object(jax.lax, "fori_loop", loop):
    yield


class TestCase(chex.TestCase, parameterized.TestCase):
  """The class to inherit: chex variants, parameters and trace counting."""

  def setUp(self):
    super().setUp()
    chex.clear_trace_counter()

  def assert_close(self, actual, expected, atol=EXACT):
    """Trees agree to `atol`; none of their arrays is empty."""
    for leaf in jax.tree.leaves(expected):
      self.assertGreater(np.size(leaf), 0, "an empty array proves nothing")
    chex.assert_trees_all_close(actual, expected, rtol=0.0, atol=atol)


class Float64TestCase(TestCase):
  """Identities are tested in float64, where rounding hides nothing."""

  def setUp(self):
    super().setUp()
    self.enter_context(jax.enable_x64(True))
