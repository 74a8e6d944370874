"""Sets of query-key pairs, by their distance d = i - j.

A set is a tuple of closed ranges of distances, ascending and apart, all within
0..length - 1: `((0, 0),)` is the own pair, `()` no pair at all. Fast paths ask
two things of it: which pairs a tile holds, and which tiles hold none.
"""

from typing import TypeVar

import jax
import numpy as np

from jaxlook.attention.spec import Spec

Pairs = tuple[tuple[int, int], ...]

Distance = TypeVar("Distance", np.ndarray, jax.Array)


def seen(spec: Spec, length: int) -> Pairs:
  """The pairs that the forward pass sees; the own one is always among them."""
  last = length - 1
  return ((0, last if spec.reach is None else min(spec.reach, last)),)


def inside(spec: Spec, length: int) -> Pairs:
  """The pairs seen within the gradient window, which read own keys, values."""
  ((_, last),) = seen(spec, length)
  high = last if spec.high is None else min(spec.high, last)
  return ((spec.low, high),) if spec.low <= high else ()


def outside(spec: Spec, length: int) -> Pairs:
  """The pairs seen outside the gradient window, which read the context."""
  ((_, last),) = whole = seen(spec, length)
  if not (window := inside(spec, length)):
    return whole
  ((low, high),) = window
  ranges = ((0, low - 1), (high + 1, last))
  return tuple((first, end) for first, end in ranges if first <= end)


def chosen(distance: Distance, pairs: Pairs) -> Distance:
  """Where a distance is one of the set; bool of the shape of `distance`."""
  result = distance < 0
  for low, high in pairs:
    result = result | ((distance >= low) & (distance <= high))
  return result & (distance >= 0)


def width(pairs: Pairs) -> int:
  """How many distances lie between the smallest and the largest; 0 for none."""
  return pairs[-1][1] - pairs[0][0] + 1 if pairs else 0
