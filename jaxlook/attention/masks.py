"""Which keys a query sees: boolean [T, S] masks, and ranges of distances.

Both depend on static sizes only: they are plain NumPy and Python constants,
built once while tracing.
"""

from typing import TypeVar

import jax
import numpy as np

from jaxlook.attention.spec import Spec

Barrier = tuple[int, int]
"""(first_query, first_key): queries at first_query and later do not see keys
before first_key; first_key <= first_query, so every query sees its own key."""

DistanceRanges = tuple[tuple[int, int], ...]
"""A set of distances: ascending ranges (low, high), both ends included."""

Distance = TypeVar("Distance", np.ndarray, jax.Array)


def distances(length: int) -> np.ndarray:
  """The distance i - j of each query i and key j; int [T, S], T = S."""
  position = np.arange(length)
  return position[:, None] - position[None, :]


def between(length: int, low: int, high: int | None) -> np.ndarray:
  """Marks low <= i - j <= high (None for no bound); bool [T, S], T = S."""
  d = distances(length)
  return (d >= low) & (d <= (length if high is None else high))


def visible(
  spec: Spec, length: int, barrier: Barrier | None = None
) -> np.ndarray:
  """Marks the keys that a query sees, its own included; bool [T, S]."""
  seen = between(length, 0, spec.reach)
  if barrier is None:
    return seen
  query, key = np.indices((length, length))
  first_query, first_key = barrier
  return seen & ((query < first_query) | (key >= first_key))


def window(spec: Spec, length: int) -> np.ndarray:
  """Marks the gradient window, where own pairs are read; bool [T, S]."""
  return between(length, spec.low, spec.high)


def seen_ranges(spec: Spec, length: int) -> DistanceRanges:
  """The distances that the forward pass sees; 0 is always among them."""
  last = length - 1
  return ((0, last if spec.reach is None else min(spec.reach, last)),)


def window_ranges(spec: Spec, length: int) -> DistanceRanges:
  """The seen distances inside the gradient window, where own pairs are read."""
  ((_, last),) = seen_ranges(spec, length)
  high = last if spec.high is None else min(spec.high, last)
  return ((spec.low, high),) if spec.low <= high else ()


def context_ranges(spec: Spec, length: int) -> DistanceRanges:
  """The seen distances outside the window, where the context is read."""
  ((_, last),) = whole = seen_ranges(spec, length)
  if not (inside := window_ranges(spec, length)):
    return whole
  ((low, high),) = inside
  ranges = ((0, low - 1), (high + 1, last))
  return tuple((first, end) for first, end in ranges if first <= end)


def in_ranges(distance: Distance, ranges: DistanceRanges) -> Distance:
  """Marks the distances within the ranges; bool, shaped like `distance`."""
  result = distance < 0
  for low, high in ranges:
    result = result | ((distance >= low) & (distance <= high))
  return result & (distance >= 0)


def span(ranges: DistanceRanges) -> int:
  """Largest minus smallest distance plus 1; 0 for an empty set."""
  return ranges[-1][1] - ranges[0][0] + 1 if ranges else 0
