"""Claims: statements about numbers, with the verdicts that intervals give.

A report lists `Statement`s with their values of every seed; `judged` turns them
into `Claim`s. A verdict follows from an interval and a range, never by hand.
Each claim is judged alone: verdicts are not adjusted for the number of claims.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import numpy as np

from jaxlook.stats.intervals import Interval, mean_interval, paired_by_seed
from jaxlook.stats.power import seeds_needed

_Tree = TypeVar("_Tree")

Verdict = Literal["supported", "contradicted", "inconclusive"]

PAIRED = "paired by seed"
BELOW_0 = {"high": -math.nextafter(0.0, 1.0)}
ABOVE_0 = {"low": math.nextafter(0.0, 1.0)}


@dataclasses.dataclass(frozen=True)
class Claim:
  """One statement with its evidence; `claim` builds it.

  The class computes the verdict from `ci95` and the range [low, high] that the
  statement names. The verdict cannot be passed in; the range is not kept.

  Attributes:
    id: short name, unique in a result.
    statement: what is claimed, in words that name the range.
    source: where the claim comes from.
    estimate: point estimate, in `unit`.
    unit: the unit of `estimate` and `ci95`.
    ci95: 95% interval of the estimate.
    n: the number of seeds.
    verdict: "supported", "contradicted" or "inconclusive".
    seeds_needed: of an inconclusive claim, the number of seeds that would
      probably settle it if the estimate were true; see `power.seeds_needed`.
      None if more than 1,000 would be needed, and for settled claims.
  """

  id: str
  statement: str
  source: str
  estimate: float
  unit: str
  ci95: tuple[float, float]
  n: int
  verdict: Verdict = dataclasses.field(init=False)
  seeds_needed: int | None = dataclasses.field(init=False)
  low: dataclasses.InitVar[float]
  high: dataclasses.InitVar[float]

  def __post_init__(self, low: float, high: float):
    """Computes the verdict."""
    found = verdict(self.ci95, low, high)
    object.__setattr__(self, "verdict", found)
    needed = None
    if found == "inconclusive" and self.n > 1:
      interval = Interval(self.estimate, self.ci95, self.n, "")
      needed = seeds_needed(interval, low, high)
    object.__setattr__(self, "seeds_needed", needed)

  def as_json(self) -> dict[str, Any]:
    """Returns the `claims` entry of result.json; cannot raise."""
    entry = {**dataclasses.asdict(self), "ci95": list(self.ci95)}
    if entry["seeds_needed"] is None:
      del entry["seeds_needed"]
    return entry


def verdict(
  ci95: tuple[float, float], low: float = -math.inf, high: float = math.inf
) -> Verdict:
  """Judges the statement "the quantity lies in [low, high]" by an interval.

  The range includes its ends. For a strict statement such as "greater than
  zero", pass `low=math.nextafter(0.0, 1.0)`; with `low=0.0` an interval of
  width 0 at zero would support it.

  Args:
    ci95: lower and upper end of the interval.
    low: smallest value that agrees with the statement.
    high: largest value that agrees with the statement.

  Returns:
    "supported" if the whole interval lies in the range, "contradicted" if no
    part of it does, else "inconclusive". A non-finite interval is always
    "inconclusive".

  Raises:
    ValueError: the range is empty or NaN, or the interval's ends are swapped.
  """
  if not low <= high:
    raise ValueError(
      f"range [{low}, {high}] contains no number; low must be at most high"
    )
  lower, upper = ci95
  if not (math.isfinite(lower) and math.isfinite(upper)):
    return "inconclusive"
  if lower > upper:
    raise ValueError(
      f"interval [{lower}, {upper}] has its ends swapped; give the lower first"
    )
  if low <= lower and upper <= high:
    return "supported"
  if upper < low or lower > high:
    return "contradicted"
  return "inconclusive"


def claim(
  id: str,
  statement: str,
  source: str,
  unit: str,
  interval: Interval,
  *,
  low: float = -math.inf,
  high: float = math.inf,
) -> Claim:
  """Builds a claim whose verdict follows from the interval.

  Args:
    id: short name, unique in a result.
    statement: what is claimed; it should name the range.
    source: where the claim comes from, such as "Wu et al. (2024), Sec. 4".
    unit: the unit of the quantity, such as "nats/token".
    interval: the evidence, an `Interval` or `Comparison`.
    low: smallest value that agrees with the statement.
    high: largest value that agrees with the statement.

  Returns:
    The claim, with the verdict of `verdict(interval.ci95, low, high)`.

  Raises:
    ValueError: no bound is given, or `verdict` raises it.
  """
  if low == -math.inf and high == math.inf:
    raise ValueError(f"claim {id!r} has no bound; give low, high or both")
  return Claim(
    id=id,
    statement=statement,
    source=source,
    estimate=interval.estimate,
    unit=unit,
    ci95=interval.ci95,
    n=interval.n,
    low=low,
    high=high,
  )


class Statement(NamedTuple):
  """A claim before its interval.

  Attributes:
    id: short name, unique in a result.
    statement: what is claimed, in words that name the range.
    source: where the claim comes from.
    unit: of the values.
    values: one per seed, [E]; NaN for seeds that diverged.
    bounds: `low`, `high` or both: the range that the statement names.
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
  """Returns a - b for every seed that is finite in both arms.

  Args:
    a: value by seed of the first arm; NaN or infinite where it diverged.
    b: the same for the second arm; it may hold other seeds.

  Returns:
    Float64 [n] in ascending seed order; n may be 0.
  """
  first, second = paired_by_seed(a, b)
  return first - second


def judged(statements: Iterable[Statement]) -> list[Claim]:
  """Turns statements into claims with intervals and verdicts.

  Args:
    statements: in order.

  Returns:
    The claims, in the same order, without statements that have fewer than two
    finite values.

  Raises:
    ValueError: a statement has no bound, or an empty range.
  """
  result = []
  for each in statements:
    alive = each.values[np.isfinite(each.values)]
    if len(alive) > 1:
      interval = mean_interval(alive, pairing=each.pairing)
      result.append(
        claim(
          id=each.id,
          statement=each.statement,
          source=each.source,
          unit=each.unit,
          interval=interval,
          **each.bounds,
        )
      )
  return result


def by_seed(values: _Tree, alive: Sequence[bool] | None = None) -> _Tree:
  """Copies numbers of every seed to float64 NumPy arrays, for statements.

  Args:
    values: a tree of arrays [E, ...].
    alive: for each seed, False if it diverged; all True by default.

  Returns:
    The tree of NumPy arrays; NaN for seeds that diverged.
  """

  def convert(array: jax.Array) -> np.ndarray:
    result = np.array(array, np.float64)
    if alive is not None:
      result[~np.asarray(alive, bool)] = np.nan
    return result

  return jax.tree.map(convert, values)
