"""Simulated values of crossed seeds and windows, whose true mean is zero.

They show how often an interval covers where the variances are known and the
effects may be skewed.
"""

import dataclasses

import numpy as np

from jaxlook.stats import two_way

EFFECTS = ("normal", "exponential", "lognormal")
"""Distributions of the effects; the others have a skewness of 2 and 6.2."""

_AT_ONCE = 1_000


@dataclasses.dataclass(frozen=True)
class Crossed:
  """A crossed layout: value = seed effect + window effect + rest.

  Attributes:
    effects: distribution of all effects, one of `EFFECTS`, with mean zero.
    seeds: number of seeds E, at least 2.
    windows: number of windows W, at least 2.
    shares: the shares of seeds, windows and rest in the variance of the mean of
      all values, which is their sum.

  Raises:
    ValueError: a field is out of range.
  """

  effects: str
  seeds: int
  windows: int
  shares: tuple[float, float, float]

  def __post_init__(self):
    """Checks the fields."""
    if self.effects not in EFFECTS:
      raise ValueError(f"effects must be one of {EFFECTS}: {self.effects!r}")
    if min(self.seeds, self.windows) < 2:
      raise ValueError(
        "seeds and windows must be at least 2, not"
        f" {self.seeds} and {self.windows}"
      )
    if not min(self.shares) >= 0.0:
      raise ValueError(f"shares must not be negative: {self.shares}")

  def draw(self, rng: np.random.Generator, repetitions: int) -> np.ndarray:
    """Draws the values of some repetitions, float64 [R, E, W].

    Args:
      rng: the generator; its state moves on.
      repetitions: R, at least 1.
    """
    total = np.zeros((repetitions, self.seeds, self.windows))
    shapes = ((self.seeds, 1), (1, self.windows), (self.seeds, self.windows))
    for share, shape in zip(self.shares, shapes, strict=True):
      size = shape[0] * shape[1]
      total += np.sqrt(share * size) * _effects(
        self.effects, rng, (repetitions, *shape)
      )
    return total


def coverage(
  layout: Crossed, rng: np.random.Generator, repetitions: int
) -> dict[str, int]:
  """Counts the 95% intervals that contain the true mean.

  Args:
    layout: what to draw.
    rng: the generator; its state moves on.
    repetitions: R, at least 1.

  Returns:
    The counts of "t", the interval over the seeds' means, and of "two-way".
  """
  counts = {"t": 0, "two-way": 0}
  # In parts, because ten thousand repetitions of 256 windows need gigabytes.
  for first in range(0, repetitions, _AT_ONCE):
    values = layout.draw(rng, min(_AT_ONCE, repetitions - first))
    distance = np.abs(values.mean(axis=(1, 2)))
    by_seeds, by_windows = two_way.errors(values)
    for kind, error in (
      ("t", np.zeros_like(by_windows)),
      ("two-way", by_windows),
    ):
      half = two_way.half_width(by_seeds, error, values.shape[1:])
      counts[kind] += int(np.count_nonzero(distance <= half))
  return counts


def _effects(
  kind: str, rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray:
  """Draws numbers with mean 0 and variance 1."""
  if kind == "normal":
    return rng.normal(size=shape)
  if kind == "exponential":
    return rng.exponential(size=shape) - 1.0
  variance = (np.e - 1.0) * np.e
  return (rng.lognormal(size=shape) - np.exp(0.5)) / np.sqrt(variance)
