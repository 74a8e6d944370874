"""Intervals over seeds: means and paired differences.

A seed is the unit of replication: every interval is over seeds, never over
tokens or sequences. For each seed, arms share the init and the data order, so
they are compared by paired differences. A seed that diverged in one arm is
dropped from both, and `n` counts the rest. Only what shares neither, such as
models of two sizes, is compared without pairs.

Sources: Student (1908) for the t interval; Welch (1947), Biometrika 34, for
the unpaired one; Efron (1987), "Better bootstrap
confidence intervals", JASA 82, for BCa; Hedges (1981), J. Educ. Stat. 6, for
the small-sample correction of the effect size; Holm (1979), Scand. J. Stat. 6.
"""

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special
import scipy.stats
from numpy.typing import ArrayLike

BOOTSTRAP_SEED = 0
"""The default seed of the bootstrap."""

BOOTSTRAP_RESAMPLES = 9999


@dataclasses.dataclass(frozen=True)
class Interval:
  """An estimate with its 95% interval.

  Attributes:
    estimate: the point estimate, in the unit of the values.
    ci95: lower and upper end of the 95% interval, same unit.
    n: the number of seeds.
    pairing: "unpaired", or how values were paired, such as "paired by seed".
  """

  estimate: float
  ci95: tuple[float, float]
  n: int
  pairing: str


@dataclasses.dataclass(frozen=True)
class Comparison(Interval):
  """A paired difference a - b over seeds; `ci95` is its t interval.

  If every seed has the same difference, the values are the limits for sd -> 0:
  both intervals have width 0, `d_z` and `effect_size` are 0 or signed infinity,
  and `p_value` is 1 for a zero and 0 for a non-zero difference. This is right
  for an identity. For other quantities it is overconfident: n seeds merely
  showed no spread.

  Attributes:
    bootstrap95: 95% bootstrap interval of the mean difference: BCa if defined,
      else percentile. Below about ten seeds it is too narrow; quote `ci95`.
    d_z: Cohen's d_z, mean / sd of the paired differences; no unit.
    effect_size: d_z times Hedges' correction J(n - 1), which removes d_z's
      small-sample bias (0.80 at n = 5); NaN at n = 2, where no unbiased value
      exists.
    p_value: two-sided paired t test of a mean difference of zero.
  """

  bootstrap95: tuple[float, float]
  d_z: float
  effect_size: float
  p_value: float


def mean_interval(values: ArrayLike, *, pairing: str = "unpaired") -> Interval:
  """Returns the mean over seeds with its 95% t interval.

  Args:
    values: [n] one finite number per seed; drop diverged seeds first.
    pairing: how the values were paired, if they are differences.

  Returns:
    The interval; its width is zero if all values are equal.

  Raises:
    ValueError: values are not one-dimensional, fewer than 2, or not finite.
  """
  by_seed = np.asarray(values, dtype=np.float64)
  if by_seed.ndim != 1:
    raise ValueError(
      f"values must be one number per seed, not of shape {by_seed.shape}"
    )
  if len(by_seed) < 2:
    raise ValueError(f"values must cover at least 2 seeds, not {len(by_seed)}")
  bad = np.count_nonzero(~np.isfinite(by_seed))
  if bad:
    raise ValueError(
      f"values has {bad} of {len(by_seed)} numbers that are not finite; drop"
      " diverged seeds first"
    )
  mean, _, ci95 = _t_summary(by_seed)
  return Interval(mean, ci95, len(by_seed), pairing)


def paired_by_seed(
  a: Mapping[int, float], b: Mapping[int, float]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the values of the seeds that are finite in both arms.

  A seed that diverged in one arm is dropped from both, so the rest are pairs
  with the same init and data order. Cannot raise.

  Args:
    a: value by seed of the first arm; NaN or infinite where it diverged.
    b: the same for the second arm; it may hold other seeds.

  Returns:
    Two float64 [n] arrays in ascending seed order; n may be 0.
  """
  kept = [
    seed
    for seed in sorted(a.keys() & b.keys())
    if math.isfinite(a[seed]) and math.isfinite(b[seed])
  ]
  return (
    np.array([a[seed] for seed in kept], dtype=np.float64),
    np.array([b[seed] for seed in kept], dtype=np.float64),
  )


def compare(
  a: Mapping[int, float],
  b: Mapping[int, float],
  *,
  rng: int | np.random.Generator = BOOTSTRAP_SEED,
) -> Comparison:
  """Compares two arms by the differences a - b over the seeds they share.

  Args:
    a: value by seed of the first arm; NaN or infinite where it diverged.
    b: the same for the second arm.
    rng: seed or generator of the bootstrap; the same seed gives the same
      interval.

  Returns:
    The comparison, "paired by seed", over the seeds finite in both. See
    `Comparison` for the values if there is no spread.

  Raises:
    ValueError: fewer than 2 seeds are finite in both arms.
  """
  first, second = paired_by_seed(a, b)
  if len(first) < 2:
    raise ValueError(
      "a and b must share at least 2 seeds that are finite in both, not"
      f" {len(first)}"
    )
  differences = first - second
  n = len(differences)
  mean, sd, ci95 = _t_summary(differences)
  if sd == 0.0:
    d_z = math.copysign(math.inf, mean) if mean else 0.0
    p_value = 0.0 if mean else 1.0
    bootstrap95 = ci95
  else:
    d_z = mean / sd
    p_value = 2.0 * float(scipy.stats.t.sf(abs(d_z) * math.sqrt(n), n - 1))
    bootstrap95 = _bootstrap95(differences, rng)
  return Comparison(
    estimate=mean,
    ci95=ci95,
    n=n,
    pairing="paired by seed",
    bootstrap95=bootstrap95,
    d_z=d_z,
    effect_size=_hedges_correction(n - 1) * d_z,
    p_value=p_value,
  )


def unpaired(a: ArrayLike, b: ArrayLike) -> Interval:
  """Compares the means of models that share neither init nor data.

  Args:
    a: [n] one finite number per seed of the first models.
    b: [m] the same for the others.

  Returns:
    mean(a) - mean(b) with Welch's 95% t interval; its n is the smaller one. Its
    width is zero if neither has any spread.

  Raises:
    ValueError: as `mean_interval`, for either.
  """
  first, second = mean_interval(a), mean_interval(b)
  difference = first.estimate - second.estimate
  # Squared standard errors, and the share of each in the difference's.
  errors = np.array(
    [_t_summary(np.asarray(x, np.float64))[1] ** 2 for x in (a, b)]
  )
  counts = np.array([first.n, second.n])
  errors /= counts
  half = 0.0
  if errors.any():
    shares = errors / errors.sum()
    freedom = 1.0 / np.sum(shares**2 / (counts - 1))
    half = float(scipy.stats.t.ppf(0.975, freedom) * np.sqrt(errors.sum()))
  return Interval(
    difference,
    (difference - half, difference + half),
    int(counts.min()),
    "unpaired",
  )


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
  """Returns Holm's step-down adjusted p-values, in the order given.

  If you reject where the adjusted value is at most alpha, the probability of
  any false rejection in the family is at most alpha, under any dependence.

  Args:
    p_values: [m] p-values of one family; m may be 0.

  Returns:
    [m] float64 adjusted values, at most 1, in the order of `p_values`.

  Raises:
    ValueError: the values are not one-dimensional, or not within [0, 1].
  """
  p = np.asarray(p_values, dtype=np.float64)
  if p.ndim != 1:
    raise ValueError(f"p_values must be one-dimensional, not {p.shape}")
  # NaN must fail this comparison, too.
  outside = p[~((p >= 0.0) & (p <= 1.0))]
  if outside.size:
    raise ValueError(f"p_values must lie in [0, 1], not {outside[0]}")
  order = np.argsort(p, kind="stable")
  steps = p[order] * np.arange(len(p), 0, -1)
  adjusted = np.empty_like(p)
  adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
  return adjusted


def comparison_table(
  comparisons: Mapping[str, Comparison],
) -> list[dict[str, Any]]:
  """Returns one row per comparison, with p adjusted over the whole table.

  Args:
    comparisons: by name, in the order of the rows. The table is the family
      that Holm's method corrects for, so include every comparison made.

  Returns:
    Rows with the keys name, those of `Comparison`, and p_holm.

  Raises:
    ValueError: a comparison has a p-value outside [0, 1].
  """
  adjusted = holm([each.p_value for each in comparisons.values()])
  return [
    {"name": name, **dataclasses.asdict(each), "p_holm": float(p_holm)}
    for (name, each), p_holm in zip(comparisons.items(), adjusted, strict=True)
  ]


def _t_summary(
  values: np.ndarray,
) -> tuple[float, float, tuple[float, float]]:
  """Returns mean, sd (n - 1 in the denominator) and the 95% t interval."""
  if np.all(values == values[0]):
    # The mean of equal numbers may differ from them by rounding; a spread of
    # 1e-17 would look like a finite effect size.
    mean = float(values[0])
    return mean, 0.0, (mean, mean)
  n = len(values)
  mean = float(np.mean(values))
  sd = float(np.std(values, ddof=1))
  half = float(scipy.stats.t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
  return mean, sd, (mean - half, mean + half)


def _hedges_correction(degrees_of_freedom: int) -> float:
  """Returns Hedges' exact J; NaN for one degree of freedom."""
  if degrees_of_freedom == 1:
    return math.nan
  half = degrees_of_freedom / 2.0
  log_ratio = scipy.special.gammaln(half) - scipy.special.gammaln(half - 0.5)
  return float(np.exp(log_ratio) / math.sqrt(half))


def _bootstrap95(
  differences: np.ndarray, rng: int | np.random.Generator
) -> tuple[float, float]:
  """Returns the BCa interval of the mean, or the percentile interval."""
  with warnings.catch_warnings(), np.errstate(all="ignore"):
    # BCa's acceleration is 0 / 0 if differences are equal up to rounding, or so
    # small that their cubes are 0; scipy then warns and returns NaN.
    warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
    result = scipy.stats.bootstrap(
      (differences,),
      np.mean,
      n_resamples=BOOTSTRAP_RESAMPLES,
      confidence_level=0.95,
      method="BCa",
      rng=np.random.default_rng(rng),
    )
  if not np.all(np.isfinite(result.confidence_interval)):
    result = scipy.stats.bootstrap(
      (differences,),
      np.mean,
      n_resamples=0,
      confidence_level=0.95,
      method="percentile",
      bootstrap_result=result,
    )
  lower, upper = result.confidence_interval
  return float(lower), float(upper)
