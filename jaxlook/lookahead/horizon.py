"""The sweep of horizons: loss by how far ahead gradient may come from.

`horizon:h` lets keys and values receive gradient from queries up to h positions
later: h = 0 is myopic training, h = N - 1 ordinary training. The fraction of
the gap closed at h is (loss(0) - loss(h)) / (loss(0) - loss(N - 1)), seed by
seed. Other arms of the sweep let a share of the gradient leak at all distances,
let it pass at one distance only, cut keys or values only, or block or open one
layer.

A gradient of horizon h reaches h positions back in each layer, so at most
h * layers positions in all (the tests of the decoder check this law). So a
feature that only positions from c later on need cannot be trained with
h < c / layers.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxlook import stats
from jaxlook.attention import Variant, parse_variant
from jaxlook.errors import SettingError
from jaxlook.stats.myopia_gap import CAUSAL

STOPS = ("residual", "kv")
CLOSED = 0.9
"""The fraction of the gap whose smallest horizon is reported."""

LossByVariant = Mapping[str, Mapping[int, float]]


@dataclasses.dataclass(frozen=True)
class HorizonSweep:
  """The arms of the sweep, for both stop points.

  Attributes:
    horizons: the h below ordinary training, ascending from 0.
    leaks: shares of the gradient that pass, strictly between 0 and 1.
    offsets: distances that receive gradient when all others do not.
    part_horizons: the h at which keys only and values only are cut as well.
    single_layers: whether to block, and to leave open, one layer at a time.

  Raises:
    SettingError: the horizons do not begin with 0 or do not ascend.
  """

  horizons: tuple[int, ...]
  leaks: tuple[float, ...] = ()
  offsets: tuple[int, ...] = ()
  part_horizons: tuple[int, ...] = ()
  single_layers: bool = True

  def __post_init__(self):
    """Refuses horizons without 0, or out of order."""
    if not self.horizons or self.horizons[0] != 0:
      raise SettingError("horizons", f"must begin with 0, not {self.horizons}")
    if list(self.horizons) != sorted(set(self.horizons)):
      raise SettingError("horizons", f"must ascend, not {self.horizons}")

  def within(self, length: int) -> "HorizonSweep":
    """The sweep without horizons and offsets too large for a sequence."""
    return dataclasses.replace(
      self,
      horizons=tuple(h for h in self.horizons if h < length - 1) or (0,),
      offsets=tuple(d for d in self.offsets if d < length),
      part_horizons=tuple(h for h in self.part_horizons if h < length - 1),
    )

  def variants(self, layers: int, heads: int) -> tuple[Variant, ...]:
    """All arms, `causal` first.

    Args:
      layers: layers of the model.
      heads: heads of each layer.
    """
    names = [CAUSAL]
    for stop in STOPS:
      names += [horizon_name(h, stop) for h in self.horizons]
      names += [f"leak:{beta:g}/{stop}" for beta in self.leaks]
      names += [f"offset:{d}/{stop}" for d in self.offsets]
      names += [
        horizon_name(h, stop, part)
        for part in ("keys", "values")
        for h in self.part_horizons
      ]
      if self.single_layers and layers > 1:
        names += list(blocked_layers(layers, stop).values())
        names += list(open_layers(layers, stop).values())
    return tuple(
      parse_variant(name, layers, heads) for name in dict.fromkeys(names)
    )


def horizon_name(h: int, stop: str, part: str = "") -> str:
  """The name of the arm with gradient from at most h positions later.

  Args:
    h: the horizon, at least 0.
    stop: where blocked gradient stops, "kv" or "residual".
    part: "keys" or "values" to cut only these; empty to cut both.
  """
  return "/".join(word for word in (f"horizon:{h}", stop, part) if word)


def blocked_layers(layers: int, stop: str) -> dict[int, str]:
  """The arms in which only one layer is myopic, by that layer."""
  return _one_layer(layers, horizon_name(0, stop), CAUSAL)


def open_layers(layers: int, stop: str) -> dict[int, str]:
  """The arms in which all layers but one are myopic, by that layer."""
  return _one_layer(layers, CAUSAL, horizon_name(0, stop))


def _one_layer(layers: int, one: str, others: str) -> dict[int, str]:
  return {
    layer: ",".join(one if at == layer else others for at in range(layers))
    for layer in range(layers)
  }


def loss_array(values: LossByVariant, names: Sequence[str]) -> np.ndarray:
  """The losses of arms as an array.

  Args:
    values: the loss by variant and seed.
    names: R arms.

  Returns:
    [R, E] over all seeds of any arm of `values`; NaN where an arm diverged or
    is missing.
  """
  seeds = sorted(set().union(*(values[name].keys() for name in values)))
  return np.array(
    [
      [values.get(name, {}).get(seed, math.nan) for seed in seeds]
      for name in names
    ]
  )


def gap_closed(losses_RxE: np.ndarray) -> np.ndarray:
  """The fraction of the gap closed, seed by seed.

  Args:
    losses_RxE: rows from h = 0 to ordinary training.

  Returns:
    [R, E], 0 in the first row and 1 in the last; NaN for a seed without a gap.
  """
  gap_E = losses_RxE[0] - losses_RxE[-1]
  gap_E = np.where(gap_E > 0.0, gap_E, np.nan)
  return (losses_RxE[0][None] - losses_RxE) / gap_E[None]


def smallest_closing(
  horizons: Sequence[int], closed_RxE: np.ndarray, share: float = CLOSED
) -> np.ndarray:
  """The smallest h of the sweep that closes a share of the gap, by seed.

  Args:
    horizons: R horizons, ascending; the last is ordinary training's N - 1.
    closed_RxE: fractions closed, from `gap_closed`.
    share: the share of the gap, positive.

  Returns:
    [E], float; NaN for a seed without a gap, or with a missing loss before the
    first h that closes the share.
  """
  rows = _first_closing(closed_RxE, share)
  return np.array([math.nan if r is None else horizons[r] for r in rows])


def interpolated_closing(
  horizons: Sequence[int], closed_RxE: np.ndarray, share: float = CLOSED
) -> np.ndarray:
  """The horizon at which the fraction closed first reaches a share, by seed.

  Interpolates linearly from each h of the sweep to the next. `smallest_closing`
  is the same value rounded up to the next h of the sweep. The interpolated
  value varies smoothly over seeds, as an interval of its mean requires.

  Args:
    horizons: see `smallest_closing`.
    closed_RxE: see `smallest_closing`.
    share: see `smallest_closing`.

  Returns:
    [E], positions; NaN as for `smallest_closing`.
  """
  found = []
  for row, column in zip(
    _first_closing(closed_RxE, share), closed_RxE.T, strict=True
  ):
    if row is None:
      found.append(math.nan)
      continue
    part = (share - column[row - 1]) / (column[row] - column[row - 1])
    found.append(horizons[row - 1] + part * (horizons[row] - horizons[row - 1]))
  return np.array(found)


def _first_closing(closed_RxE: np.ndarray, share: float) -> list[int | None]:
  """The first row that closes a share, by seed; None if it is unknown."""
  if not 0.0 < share <= 1.0:
    raise ValueError(f"share must lie in (0, 1], not {share}")
  found: list[int | None] = []
  for column in closed_RxE.T:
    reached = np.flatnonzero(np.isnan(column) | (column >= share))
    known = len(reached) > 0 and not np.isnan(column[: reached[0] + 1]).any()
    found.append(int(reached[0]) if known else None)
  return found


def seed_interval(values_E: np.ndarray) -> stats.Interval | None:
  """The mean over seeds with a finite value; None if fewer than two."""
  finite = values_E[np.isfinite(values_E)]
  if len(finite) < 2:
    return None
  return stats.mean_interval(finite, pairing="within a seed")
