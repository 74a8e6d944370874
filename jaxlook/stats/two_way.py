"""Intervals for text in general: seeds and held-out windows are both random.

All seeds are evaluated on the same windows of text. An interval over seeds
alone treats these windows as fixed: it says how much other seeds would change
the number, not how much other text would. Here the value of seed e on window w
is mu + seed_e + window_w + rest_ew with independent random effects, and the
interval is for mu. The windows must be a random sample of the text; windows cut
one after the other from few documents vary less than other text would.

The estimate is the mean of all values. With the mean squares of seeds, windows
and rest, MS_s, MS_w and MS_r, its variance is estimated as the sum of

  MS_s / (E W)              seeds, with their share of the rest
  max(MS_w - MS_r, 0) / (E W)   windows

(Cornfield and Tukey 1956, Ann. Math. Stat. 27). Each standard error is
multiplied by its own t quantile, and the half-widths are added in quadrature
(Banerjee 1960, Sankhya 22). For normal effects, with MS_w in place of the
difference, this covers at least 95% at any ratio of the variances: the
probability that a squared normal number is below x is concave in x, so that of
a weighted mean of the two bounds is at least the weighted mean of 95% and 95%.

Two other intervals covered less in trials with normal effects like those of
`crossed.py`: Satterthwaite's degrees of freedom (1946, Biometrics 2) as little
as 88% with 2 seeds that dominate, the percentiles of the pigeonhole bootstrap
(Owen 2007, Ann. Appl. Stat. 1), which resamples seeds and windows, 73% to 86%
with 2 to 4 such seeds. The interval here covered 95% to 99%. It corrects no
skew: with 8 lognormal seeds that dominate it covers 87%, the t interval over
seeds 85%.
"""

import dataclasses
import math

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from jaxlook.stats.intervals import Interval, mean_interval

OVER_TEXT = "over windows of text; says nothing about other training runs"
"""The pairing of an interval that has one training run."""


@dataclasses.dataclass(frozen=True)
class TwoWay(Interval):
  """An estimate for random seeds and random windows; `n` counts seeds.

  Attributes:
    windows: the number of windows.
    seeds_error: standard error from the seeds, in the unit of the values.
    windows_error: standard error from the windows; 0 if they vary no more than
      the rest does.
  """

  windows: int
  seeds_error: float
  windows_error: float

  @property
  def standard_error(self) -> float:
    """The standard error of the estimate."""
    return math.hypot(self.seeds_error, self.windows_error)


def two_way_interval(
  values: ArrayLike, *, pairing: str = "paired by seed and window"
) -> TwoWay:
  """Returns the mean with a 95% interval for random seeds and windows.

  The interval is never narrower than `mean_interval` over the seeds' means.

  Args:
    values: [E, W] by seed and window, such as the loss of one variant minus
      that of another; drop diverged seeds first.
    pairing: how the values were paired.

  Returns:
    The interval; its width is zero if all values are equal.

  Raises:
    ValueError: values are not of two axes, below 2 seeds or 2 windows, or not
      finite.
  """
  table = np.asarray(values, dtype=np.float64)
  if table.ndim != 2 or min(table.shape) < 2:
    raise ValueError(
      "values must have the axes seed and window, each of length 2 or more;"
      f" the shape is {table.shape}"
    )
  _check_finite(table)
  seeds, windows = table.shape
  seeds_error, windows_error = (float(error) for error in errors(table))
  mean = float(table.mean())
  half = float(half_width(seeds_error, windows_error, table.shape))
  return TwoWay(
    estimate=mean,
    ci95=(mean - half, mean + half),
    n=seeds,
    pairing=pairing,
    windows=windows,
    seeds_error=seeds_error,
    windows_error=windows_error,
  )


def errors(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the standard errors of the mean from seeds and from windows.

  Args:
    values: float [..., E, W], finite.

  Returns:
    Two arrays [...]; see `TwoWay`. Cannot raise if E and W are at least 2.
  """
  seeds, windows = values.shape[-2:]
  # Equal values then have an error of exactly 0.
  values = values - values[..., :1, :1]
  by_seed = values.mean(axis=-1, keepdims=True)
  by_window = values.mean(axis=-2, keepdims=True)
  rest = values - by_seed - by_window + values.mean((-2, -1), keepdims=True)
  from_rest = (rest**2).sum((-2, -1)) / (
    (seeds - 1) * (windows - 1) * seeds * windows
  )
  from_seeds = by_seed.var(axis=(-2, -1), ddof=1) / seeds
  from_windows = by_window.var(axis=(-2, -1), ddof=1) / windows
  return (
    np.sqrt(from_seeds),
    np.sqrt(np.maximum(from_windows - from_rest, 0.0)),
  )


def half_width(
  seeds_error: ArrayLike, windows_error: ArrayLike, shape: tuple[int, int]
) -> np.ndarray:
  """Returns half the width of the 95% interval.

  Args:
    seeds_error: standard errors from the seeds, of any shape.
    windows_error: standard errors from the windows, of the same shape.
    shape: the numbers of seeds and windows, each at least 2.

  Returns:
    Float64 of that shape; cannot raise.
  """
  for_seeds, for_windows = scipy.stats.t.ppf(0.975, np.array(shape) - 1)
  return np.hypot(
    for_seeds * np.asarray(seeds_error), for_windows * np.asarray(windows_error)
  )


def over_sequences(values: ArrayLike) -> Interval:
  """Returns the mean of one model's values with a 95% t interval over text.

  For a model without other seeds, such as a pretrained one. The interval says
  what other text would change, and nothing about another training run; its
  `pairing` says so.

  Args:
    values: [W] one number per window, such as a loss or a difference of losses
      of one model.

  Returns:
    The interval; `n` counts windows.

  Raises:
    ValueError: values are not one-dimensional, fewer than 2, or not finite.
  """
  by_window = np.asarray(values, dtype=np.float64)
  if by_window.ndim != 1 or len(by_window) < 2:
    raise ValueError(
      "values must be one number per window, of 2 windows or more; the shape is"
      f" {by_window.shape}"
    )
  _check_finite(by_window)
  return mean_interval(by_window, pairing=OVER_TEXT)


def _check_finite(values: np.ndarray) -> None:
  bad = np.count_nonzero(~np.isfinite(values))
  if bad:
    raise ValueError(
      f"values has {bad} of {values.size} numbers that are not finite; drop"
      " diverged seeds first"
    )
