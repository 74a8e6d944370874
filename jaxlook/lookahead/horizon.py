"""The dial: loss as a function of how far ahead gradient may come from.

`horizon:h` lets keys and values receive gradient from queries up to h later:
h = 0 is myopic, h = N - 1 ordinary training. The fraction of the gap closed at
h is (loss(0) - loss(h)) / (loss(0) - loss(N - 1)), seed by seed. Beside it: a
leak of gradient at all distances, one distance alone, keys or values alone,
and one layer blocked or open.

A gradient of horizon h reaches h positions back in each layer, so at most
h * layers in all (the law that the decoder's tests hold). A feature wanted
only from c positions later can therefore not be asked for with h < c / layers.
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
  """Which arms the dial has, for both stop points.

  Attributes:
    horizons: the h between myopic and ordinary training, ascending from 0.
    leaks: shares of the gradient that pass, strictly between 0 and 1.
    offsets: distances that alone receive gradient.
    part_horizons: the h at which keys alone and values alone are cut, too.
    single_layers: whether single layers are blocked, and left open.

  Raises:
    SettingError: the horizons do not begin with 0 or do not ascend.
  """

  horizons: tuple[int, ...]
  leaks: tuple[float, ...] = ()
  offsets: tuple[int, ...] = ()
  part_horizons: tuple[int, ...] = ()
  single_layers: bool = True

  def __post_init__(self):
    """Refuses a dial without its zero."""
    if not self.horizons or self.horizons[0] != 0:
      raise SettingError("horizons", f"must begin with 0, not {self.horizons}")
    if list(self.horizons) != sorted(set(self.horizons)):
      raise SettingError("horizons", f"must ascend, not {self.horizons}")

  def within(self, length: int) -> "HorizonSweep":
    """The dial without horizons and offsets that a sequence cannot have."""
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
  """The name of the arm with gradient from up to h positions later.

  Args:
    h: the horizon, at least 0.
    stop: where blocked gradient stops, "kv" or "residual".
    part: "keys" or "values" to cut only these; empty for both.
  """
  return "/".join(word for word in (f"horizon:{h}", stop, part) if word)


def blocked_layers(layers: int, stop: str) -> dict[int, str]:
  """The arms in which one layer alone is myopic, by that layer."""
  return _one_layer(layers, horizon_name(0, stop), CAUSAL)


def open_layers(layers: int, stop: str) -> dict[int, str]:
  """The arms in which one layer alone is not myopic, by that layer."""
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
    [R, E] over all seeds that any arm of `values` has; NaN where an arm has
    diverged or is not there.
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
  """The smallest h of the dial that closes a share of the gap, by seed.

  Args:
    horizons: R horizons, ascending; the last is ordinary training's N - 1.
    closed_RxE: fractions closed, from `gap_closed`.
    share: the share of the gap, positive.

  Returns:
    [E], float; NaN for a seed without a gap, or with a loss missing below the
    first h that closes it.
  """
  rows = _first_closing(closed_RxE, share)
  return np.array([math.nan if r is None else horizons[r] for r in rows])


def interpolated_closing(
  horizons: Sequence[int], closed_RxE: np.ndarray, share: float = CLOSED
) -> np.ndarray:
  """Where the fraction closed first reaches a share, between the h of the dial.

  A line is drawn from each h to the next. Unlike `smallest_closing`, which is
  this rounded up to the next h, it varies smoothly over seeds, as an interval
  of its mean asks for.

  Args:
    horizons: as of `smallest_closing`.
    closed_RxE: as of `smallest_closing`.
    share: as of `smallest_closing`.

  Returns:
    [E], positions; NaN as `smallest_closing`.
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
  """The first row that closes a share, by seed; None where it is unknown."""
  if not 0.0 < share <= 1.0:
    raise ValueError(f"share must lie in (0, 1], not {share}")
  found: list[int | None] = []
  for column in closed_RxE.T:
    reached = np.flatnonzero(np.isnan(column) | (column >= share))
    known = len(reached) > 0 and not np.isnan(column[: reached[0] + 1]).any()
    found.append(int(reached[0]) if known else None)
  return found


def seed_interval(values_E: np.ndarray) -> stats.Interval | None:
  """The mean over the seeds that have a value; None below two of them."""
  finite = values_E[np.isfinite(values_E)]
  if len(finite) < 2:
    return None
  return stats.mean_interval(finite, pairing="within a seed")
