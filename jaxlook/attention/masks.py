"""Boolean [T, S] masks over distances d = i - j, as plain NumPy constants.

They depend on static sizes alone, so they are built once, while tracing.
"""

import numpy as np

from jaxlook.attention.spec import Spec

Barrier = tuple[int, int]
"""(first_query, first_key): queries from the one on see keys from the other
on; first_key <= first_query, so that every query sees its own key."""


def distances(length: int) -> np.ndarray:
  """The distance i - j of each query i and key j; int [T, S], T = S."""
  position = np.arange(length)
  return position[:, None] - position[None, :]


def between(length: int, low: int, high: int | None) -> np.ndarray:
  """Where low <= i - j <= high (None for no bound); bool [T, S], T = S."""
  d = distances(length)
  return (d >= low) & (d <= (length if high is None else high))


def visible(
  spec: Spec, length: int, barrier: Barrier | None = None
) -> np.ndarray:
  """Where a query may attend; bool [T, S]. Every row holds its own key."""
  seen = between(length, 0, spec.reach)
  if barrier is None:
    return seen
  query, key = np.indices((length, length))
  first_query, first_key = barrier
  return seen & ((query < first_query) | (key >= first_key))


def window(spec: Spec, length: int) -> np.ndarray:
  """Where a query reads own, live keys and values; bool [T, S]."""
  return between(length, spec.low, spec.high)
