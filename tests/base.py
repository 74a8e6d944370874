"""What every test shares: strict rank promotion and the base class.

Importing this module turns silent rank promotion into an error for the whole
test process, so that a forgotten axis fails instead of broadcasting.
"""

import chex
import jax
from absl.testing import parameterized

jax.config.update("jax_numpy_rank_promotion", "raise")


class TestCase(chex.TestCase, parameterized.TestCase):
  """The class to inherit: chex variants, parameters and trace counting."""

  def setUp(self):
    super().setUp()
    chex.clear_trace_counter()
