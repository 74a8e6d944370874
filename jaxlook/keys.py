"""Random keys that do not depend on the settings of the process."""

from typing import Any

import jax

IMPLEMENTATION = "threefry2x32"
"""The random number generator of all keys.

With others, such as `rbg`, the numbers of one seed under `vmap` depend on the
seeds beside it.
"""


def make_key(seed: Any) -> jax.Array:
  """The key of a seed, a scalar, whatever `JAX_DEFAULT_PRNG_IMPL` says.

  Args:
    seed: an integer, or a traced one.
  """
  return jax.random.key(seed, impl=IMPLEMENTATION)
