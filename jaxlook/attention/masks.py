"""Boolean [T, S] masks over distances d = i - j, as plain NumPy constants.

They depend on static sizes alone, so they are built once, while tracing.
"""

from typing import TypeVar

import jax
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


DistanceRanges = tuple[tuple[int, int], ...]

Distance = TypeVar("Distance", np.ndarray, jax.Array)


def seen(spec: Spec, length: int) -> DistanceRanges:
  """The pairs that the forward pass sees; the own one is always among them."""
  last = length - 1
  return ((0, last if spec.reach is None else min(spec.reach, last)),)


def inside(spec: Spec, length: int) -> DistanceRanges:
  """The pairs seen within the gradient window, which read own keys, values."""
  ((_, last),) = seen(spec, length)
  high = last if spec.high is None else min(spec.high, last)
  return ((spec.low, high),) if spec.low <= high else ()


def outside(spec: Spec, length: int) -> DistanceRanges:
  """The pairs seen outside the gradient window, which read the context."""
  ((_, last),) = whole = seen(spec, length)
  if not (window := inside(spec, length)):
    return whole
  ((low, high),) = window
  ranges = ((0, low - 1), (high + 1, last))
  return tuple((first, end) for first, end in ranges if first <= end)


def chosen(distance: Distance, pairs: DistanceRanges) -> Distance:
  """Where a distance is one of the set; bool of the shape of `distance`."""
  result = distance < 0
  for low, high in pairs:
    result = result | ((distance >= low) & (distance <= high))
  return result & (distance >= 0)


def width(pairs: DistanceRanges) -> int:
  """How many distances lie between the smallest and the largest; 0 for none."""
  return pairs[-1][1] - pairs[0][0] + 1 if pairs else 0
