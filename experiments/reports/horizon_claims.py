"""The claims of the horizon sweep, with sources and verdicts."""

import math
from collections.abc import Sequence

import numpy as np

from jaxlook import stats
from jaxlook.lookahead import horizon
from jaxlook.lookahead.horizon import CAUSAL, STOPS, HorizonSweep, LossByVariant
from jaxlook.stats.claims import ABOVE_0
from jaxlook.stats.myopia_gap import source_of

_OURS = "jaxlook's own; the published code has no horizon"


def losses_by_horizon(
  chosen: HorizonSweep, values: LossByVariant, length: int, stop: str
) -> tuple[list[int], np.ndarray]:
  """The horizons up to N - 1 and their losses [R, E]."""
  names = [horizon.horizon_name(h, stop) for h in chosen.horizons]
  return [*chosen.horizons, length - 1], horizon.loss_array(
    values, [*names, CAUSAL]
  )


def claims(
  chosen: HorizonSweep,
  values: LossByVariant,
  length: int,
  reach: tuple[int, int] | None,
  *,
  unit: str,
  source: str,
  setting: str = "",
) -> list[stats.Claim]:
  """Claims on the gap at h = 0 and, if it is known, on the needed horizon.

  Args:
    chosen: the sweep.
    values: the loss by variant and seed.
    length: positions per sequence.
    reach: bounds on the horizon that the task needs, from the task and the
      number of layers; None if not known.
    unit: of the loss.
    source: of the claim that there is a gap.
    setting: prefix of the claims' ids if there are several settings.

  Returns:
    Claims; their ids begin with setting and stop point.
  """
  made = []
  for stop in STOPS:
    prefix = "/".join(word for word in (setting, stop) if word)
    horizons, losses_RxE = losses_by_horizon(chosen, values, length, stop)
    gap = horizon.seed_interval(losses_RxE[0] - losses_RxE[-1])
    if gap is None:
      continue
    made.append(
      stats.claim(
        f"{prefix}/gap",
        f"the loss of horizon:0/{stop} is higher than that of causal; the"
        " estimate is the difference, paired by seed",
        source_of(stop, source),
        unit,
        gap,
        **ABOVE_0,
      )
    )
    if reach is not None:
      closed_RxE = horizon.gap_closed(losses_RxE)
      made += _closing_claims(prefix, horizons, closed_RxE, reach)
      made += _short_claims(prefix, horizons, closed_RxE, reach)
  return made


def _closing_claims(
  prefix: str,
  horizons: Sequence[int],
  closed_RxE: np.ndarray,
  reach: tuple[int, int],
) -> list[stats.Claim]:
  """The horizon that closes the gap lies within the reach."""
  least, most = reach
  made = []
  smallest = horizon.seed_interval(
    horizon.smallest_closing(horizons, closed_RxE)
  )
  if smallest is not None:
    made.append(
      stats.claim(
        f"{prefix}/smallest",
        f"the smallest h of the dial that closes {horizon.CLOSED:.0%} of the"
        f" gap lies in [{least}, {most}]. With h = {least} gradient can reach"
        f" the nearest source through all layers; with h = {most} it reaches"
        " the farthest source in one layer",
        _OURS,
        "positions",
        smallest,
        low=least,
        high=most,
      )
    )
  interpolated = horizon.seed_interval(
    horizon.interpolated_closing(horizons, closed_RxE)
  )
  if interpolated is not None:
    made.append(
      stats.claim(
        f"{prefix}/horizon",
        f"{horizon.CLOSED:.0%} of the gap is closed at a horizon above"
        f" {least - 1}, with which no gradient reaches the nearest source, and"
        f" at most {most}, which reaches the farthest source; interpolated"
        " between the dial's h. This is a prediction, because positions between"
        " source and query may be asked instead",
        _OURS,
        "positions",
        interpolated,
        low=math.nextafter(least - 1, math.inf),
        high=most,
      )
    )
  return made


def _short_claims(
  prefix: str,
  horizons: Sequence[int],
  closed_RxE: np.ndarray,
  reach: tuple[int, int],
) -> list[stats.Claim]:
  """Horizons below the reach close almost nothing."""
  made = []
  for h, closed_E in zip(horizons, closed_RxE, strict=True):
    found = horizon.seed_interval(closed_E)
    if 0 < h < reach[0] and found is not None:
      made.append(
        stats.claim(
          f"{prefix}/short{h}",
          f"h = {h}, with which no gradient reaches a source, closes at most a"
          " tenth of the gap",
          _OURS,
          "fraction of the gap",
          found,
          high=0.1,
        )
      )
  return made
