"""How many seeds would settle a claim.

Source: the power of the t test from the noncentral t distribution, as in Cohen
(1988), "Statistical power analysis for the behavioral sciences", chapter 2.
"""

import math

import scipy.stats

from jaxlook.stats.intervals import Interval

POWER = 0.9
"""The probability of a verdict that `seeds_needed` asks for by default."""

_MOST = 1_000


def seeds_needed(
  interval: Interval,
  low: float = -math.inf,
  high: float = math.inf,
  *,
  power: float = POWER,
) -> int | None:
  """Counts the seeds whose 95% t interval would probably settle a statement.

  The statement is that a quantity lies in [low, high]. It is assumed that the
  estimate is the true value and that its spread over seeds is as found; both
  are rough with few seeds.

  Args:
    interval: a t interval over seeds, such as from `mean_interval`.
    low: smallest value that agrees with the statement.
    high: largest value that agrees with it.
    power: probability that the whole interval lies on the estimate's side of
      the nearest bound; in (0.5, 1).

  Returns:
    The smallest such number, at least 2; None if it is above 1,000, such as
    for an estimate on a bound.

  Raises:
    ValueError: no bound is given, the interval is of fewer than 2 seeds, or
      `power` is out of range.
  """
  if not 0.5 < power < 1.0:
    raise ValueError(f"power must lie in (0.5, 1), not {power}")
  if interval.n < 2:
    raise ValueError(f"the interval must be of 2 seeds or more: {interval.n}")
  bounds = [bound for bound in (low, high) if math.isfinite(bound)]
  if not bounds:
    raise ValueError("give low, high or both")
  distance = min(abs(interval.estimate - bound) for bound in bounds)
  half = (interval.ci95[1] - interval.ci95[0]) / 2
  sd = half * math.sqrt(interval.n) / _quantile(interval.n)
  if not math.isfinite(distance) or not math.isfinite(sd):
    return None
  if _power(_MOST, distance, sd) < power:
    return None
  # More seeds never have less power.
  too_few, enough = 1, _MOST
  while enough - too_few > 1:
    middle = (too_few + enough) // 2
    if _power(middle, distance, sd) < power:
      too_few = middle
    else:
      enough = middle
  return enough


def _power(n: int, distance: float, sd: float) -> float:
  """The probability that an interval of n seeds lies on one side."""
  if sd == 0.0:
    return 1.0 if distance else 0.0
  shift = distance * math.sqrt(n) / sd
  return float(scipy.stats.nct.sf(_quantile(n), n - 1, shift))


def _quantile(n: int) -> float:
  return float(scipy.stats.t.ppf(0.975, n - 1))
