"""Statements about numbers of every seed, before their intervals.

A report lists what it claims next to the values that decide it; `judged` gives
the verdicts. Verdicts are of each claim by itself, without adjustment for
their number.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from jaxlook import stats

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


def judged(statements: Iterable[Statement]) -> list[stats.Claim]:
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
      interval = stats.mean_interval(alive, pairing=each.pairing)
      found.append(
        stats.claim(
          *(each.id, each.statement, each.source, each.unit, interval),
          **each.bounds,
        )
      )
  return found
