"""How the myopia gap and the local bonus change with size, or with data.

Every seed has its own fit. A seed has the same data order in all arms and
sizes, so the spread between fits is the spread that an interval describes. Not
included: fits of the losses themselves (scaling laws), which need more sizes.

Source: Wu, Morris and Levine (2024), arXiv 2404.00859, section 5: Pythia models
fine-tuned with and without gradient to earlier positions.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL

LOCAL = "teacher/residual"
GAP = "gap/residual"
STRICT_GAP = "gap/kv"
BONUS = "bonus/residual"

MEASURES: Mapping[str, tuple[str, str]] = MappingProxyType(
  {GAP: (RESIDUAL, CAUSAL), STRICT_GAP: (KV, CAUSAL), BONUS: (CAUSAL, LOCAL)}
)
"""The two arms of each measure: loss of the first minus loss of the second."""


class Published(NamedTuple):
  """What the source reports for one size, from one seed.

  Attributes:
    size: non-embedding parameters, from the models' cards.
    vanilla: training loss of ordinary training, nats a token.
    myopic: training loss of myopic training, nats a token.
  """

  size: int
  vanilla: float
  myopic: float


PUBLISHED: Mapping[str, Published] = MappingProxyType(
  {
    "pythia-14m": Published(1_189_888, 4.11, 4.27),
    "pythia-31m": Published(4_739_072, 3.73, 3.84),
    "pythia-70m": Published(18_915_328, 3.44, 3.48),
    "pythia-160m": Published(85_056_000, 3.03, 3.13),
    "pythia-410m": Published(302_311_424, 2.74, 2.89),
    "pythia-1b": Published(805_736_448, 2.62, 2.78),
    "pythia-1.4b": Published(1_208_602_624, 2.54, 2.71),
    "pythia-2.8b": Published(2_517_652_480, 2.44, 2.67),
  }
)
"""By the source's model, in the order of size."""


class Fit(NamedTuple):
  """A curve of two parameters through the values of each seed.

  Attributes:
    slope: of a line, the rise when x grows tenfold; of a power law, its
      exponent. [E]
    middle: the fitted value at the geometric mean of x, [E].
    rms: root mean square distance to the values, in their unit, [E].
  """

  slope: np.ndarray
  middle: np.ndarray
  rms: np.ndarray


def fit_line(x: np.ndarray, values: np.ndarray) -> Fit:
  """Least squares of values = middle + slope (log10 x - its mean).

  Args:
    x: sizes or amounts, positive, not all equal, [R].
    values: float [R, E]; a seed with a value that is not finite gets NaN.

  Returns:
    The line of every seed.

  Raises:
    ValueError: x are not positive or all equal, or the shapes do not fit.
  """
  x, values = np.asarray(x, np.float64), np.asarray(values, np.float64)
  if x.ndim != 1 or values.ndim != 2 or len(values) != len(x):
    raise ValueError(
      f"x and values must be [R] and [R, E], not {x.shape} and {values.shape}"
    )
  if not (x > 0).all() or len(np.unique(x)) < 2:
    raise ValueError(f"x must be positive and not all equal, not {x.tolist()}")
  whole = np.isfinite(values).all(axis=0, keepdims=True)
  values = np.where(whole, values, np.nan)
  at = np.log10(x) - np.log10(x).mean()
  middle = values.mean(axis=0)
  slope = at @ values / (at @ at)
  left = values - middle[None] - at[:, None] * slope[None]
  return Fit(slope, middle, np.sqrt((left**2).mean(axis=0)))


def fit_power_law(x: np.ndarray, values: np.ndarray) -> Fit:
  """Least squares of log values = log middle + slope (log x - its mean).

  Args:
    x: see `fit_line`.
    values: see `fit_line`; a seed with a value that is not above 0 gets NaN.

  Returns:
    The power law of every seed, its distances in the unit of the values.

  Raises:
    ValueError: see `fit_line`.
  """
  values = np.asarray(values, np.float64)
  positive = np.where(values > 0, values, np.nan)
  fit = fit_line(x, np.log10(positive))
  at = np.log10(x) - np.log10(x).mean()
  fitted = 10 ** (fit.middle[None] + at[:, None] * fit.slope[None])
  rms = np.sqrt(((positive - fitted) ** 2).mean(axis=0))
  return Fit(fit.slope, 10**fit.middle, rms)


@dataclasses.dataclass(frozen=True, eq=False)
class SizeSweep:
  """Losses of the same arms and seeds at several sizes, or amounts of data.

  Attributes:
    axis: the label of x, with its unit.
    names: of the points, in the order of x.
    x: sizes or amounts, [R].
    losses: by point, variant and seed; seeds that diverged are left out.
  """

  axis: str
  names: tuple[str, ...]
  x: np.ndarray
  losses: Mapping[str, Mapping[str, Mapping[int, float]]]

  @property
  def seeds(self) -> Sequence[int]:
    """The seeds with a loss at any point, ascending."""
    return sorted(
      {
        seed
        for by_variant in self.losses.values()
        for by_seed in by_variant.values()
        for seed in by_seed
      }
    )

  def values(self, measure: str) -> np.ndarray:
    """A measure at every point and seed, paired by seed.

    Args:
      measure: one of `MEASURES`.

    Returns:
      Float64 [R, E], in the order of `names` and `seeds`; NaN where an arm
      diverged.
    """
    high, low = MEASURES[measure]

    def losses(variant: str) -> np.ndarray:
      by_point = [self.losses[name].get(variant, {}) for name in self.names]
      return np.array(
        [
          [by_seed.get(seed, np.nan) for seed in self.seeds]
          for by_seed in by_point
        ],
        np.float64,
      )

    return losses(high) - losses(low)
