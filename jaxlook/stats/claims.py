"""Statements about numbers of every seed, before their intervals.

A report lists what it claims next to the values that decide it; `judged` gives
the verdicts. Verdicts are of each claim by itself, without adjustment for
their number.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from jaxlook.stats import intervals

_Tree = TypeVar("_Tree")

PAIRED = "paired by seed"
BELOW_0 = {"high": -math.nextafter(0.0, 1.0)}
ABOVE_0 = {"low": math.nextafter(0.0, 1.0)}


class Statement(NamedTuple):
  """A claim before its interval.

  Attributes:
    id: short name, unique in a result.
    statement: what is claimed, in words that name the range.
    source: where the claim comes from.
    unit: of the values.
    values: one a seed, [E]; NaN for seeds that diverged.
    bounds: `low`, `high` or both: the values that agree with the statement.
    pairing: what the values were paired with, if they are differences.
  """

  id: str
  statement: str
  source: str
  unit: str
  values: np.ndarray
  bounds: Mapping[str, float]
  pairing: str = "unpaired"


def changes(a: Mapping[int, float], b: Mapping[int, float]) -> np.ndarray:
  """What to state of two arms: a - b of every seed that is finite in both.

  Args:
    a: value by seed of the first arm; NaN or infinite where it diverged.
    b: the same for the second arm; it may hold other seeds.

  Returns:
    Float64 [n] in ascending seed order; n may be 0.
  """
  first, second = intervals.paired_by_seed(a, b)
  return first - second


def judged(statements: Iterable[Statement]) -> list[intervals.Claim]:
  """The claims with their intervals and verdicts.

  Args:
    statements: in order.

  Returns:
    Those of which at least two seeds have a value.

  Raises:
    ValueError: a statement names no range, or not one.
  """
  found = []
  for each in statements:
    alive = each.values[np.isfinite(each.values)]
    if len(alive) > 1:
      interval = intervals.mean_interval(alive, pairing=each.pairing)
      found.append(
        intervals.claim(
          *(each.id, each.statement, each.source, each.unit, interval),
          **each.bounds,
        )
      )
  return found


def by_seed(found: _Tree, alive: Sequence[bool] | None = None) -> _Tree:
  """Numbers of every seed on the host, as statements want them.

  Args:
    found: a tree of arrays [E, ...].
    alive: by seed, whether it did not diverge; all by default.

  Returns:
    The tree with float64 NumPy arrays; NaN for seeds that diverged.
  """

  def marked(values: jax.Array) -> np.ndarray:
    result = np.array(values, np.float64)
    if alive is not None:
      result[~np.asarray(alive, bool)] = np.nan
    return result

  return jax.tree.map(marked, found)
