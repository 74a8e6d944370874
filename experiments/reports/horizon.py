"""What the dial says: claims, tables and the figure."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxlook import reporting, stats
from jaxlook.lookahead import horizon
from jaxlook.lookahead.horizon import CAUSAL, STOPS, HorizonSweep, LossByVariant
from jaxlook.reporting import figures
from jaxlook.stats.myopia_gap import source_of

_OURS = "jaxlook's own; the published code has no horizon"


def _rows(
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
  """The gap at h = 0 and, where the truth is known, that the dial finds it.

  Args:
    chosen: the dial.
    values: the loss by variant and seed.
    length: positions a sequence.
    reach: bounds of the horizon that is needed, from the task and the number of
      layers; None where the truth is not known.
    unit: of the loss.
    source: of the claim that there is a gap.
    setting: put before the claims' ids where there are several settings.

  Returns:
    Claims with ids that begin with the stop point.
  """
  found = []
  for stop in STOPS:
    name = "/".join(word for word in (setting, stop) if word)
    horizons, losses_RxE = _rows(chosen, values, length, stop)
    gap = horizon.seed_interval(losses_RxE[0] - losses_RxE[-1])
    if gap is None:
      continue
    found.append(
      stats.claim(
        f"{name}/gap",
        f"the loss of horizon:0/{stop} is higher than that of causal; the"
        " estimate is the difference, paired by seed",
        source_of(stop, source),
        unit,
        gap,
        low=math.nextafter(0.0, 1.0),
      )
    )
    if reach is None:
      continue
    closed_RxE = horizon.gap_closed(losses_RxE)
    smallest = horizon.seed_interval(
      horizon.smallest_closing(horizons, closed_RxE)
    )
    if smallest is not None:
      found.append(
        stats.claim(
          f"{name}/smallest",
          f"the smallest h of the dial that closes {horizon.CLOSED:.0%} of the"
          f" gap lies in [{reach[0]}, {reach[1]}]: from where gradient can"
          " reach the nearest source through all layers to the farthest one",
          _OURS,
          "positions",
          smallest,
          low=reach[0],
          high=reach[1],
        )
      )
    needed = horizon.seed_interval(
      horizon.interpolated_closing(horizons, closed_RxE)
    )
    if needed is not None:
      found.append(
        stats.claim(
          f"{name}/horizon",
          f"{horizon.CLOSED:.0%} of the gap is closed at a horizon above"
          f" {reach[0] - 1}, from where no gradient reaches the nearest source,"
          f" and not above {reach[1]}, where the farthest one lies;"
          " interpolated between the dial's h. A prediction: positions between"
          " source and query may be asked instead",
          _OURS,
          "positions",
          needed,
          low=math.nextafter(reach[0] - 1, math.inf),
          high=reach[1],
        )
      )
    short = [row for row, h in enumerate(horizons) if 0 < h < reach[0]]
    for row in short:
      part = horizon.seed_interval(closed_RxE[row])
      if part is not None:
        found.append(
          stats.claim(
            f"{name}/short{horizons[row]}",
            f"h = {horizons[row]}, from which no gradient reaches a source,"
            " closes at most a tenth of the gap",
            _OURS,
            "fraction of the gap",
            part,
            high=0.1,
          )
        )
  return found


def tables(
  chosen: HorizonSweep,
  values: LossByVariant,
  length: int,
  layers: int,
  unit: str,
) -> dict[str, reporting.Rows]:
  """The fraction closed by every arm, and the horizon that closes 90%.

  Args:
    chosen: the dial.
    values: the loss by variant and seed.
    length: positions a sequence.
    layers: layers of the model.
    unit: of the loss.

  Returns:
    Tables by title; every number with its 95% interval and n.
  """
  needed = [
    ["stop point", "", "mean", "95% t interval", "n", "each seed"],
  ]
  closing = [
    ["stop point", "arm", "fraction of the gap closed", "95% t interval", "n"]
  ]
  for stop in STOPS:
    horizons, losses_RxE = _rows(chosen, values, length, stop)
    for name, read in (
      ("smallest h of the dial", horizon.smallest_closing),
      ("interpolated", horizon.interpolated_closing),
    ):
      found_E = read(horizons, horizon.gap_closed(losses_RxE))
      each = " ".join(f"{h:.3g}" for h in found_E)
      needed.append([stop, name, *_shown(horizon.seed_interval(found_E)), each])
    for label, name in _arms(chosen, layers, stop):
      three = horizon.loss_array(
        values, [horizon.horizon_name(0, stop), name, CAUSAL]
      )
      closing.append(
        [
          stop,
          label,
          *_shown(horizon.seed_interval(horizon.gap_closed(three)[1])),
        ]
      )
  return {
    f"Horizon that closes {horizon.CLOSED:.0%} of the gap, positions": needed,
    f"Fraction of the gap closed (losses in {unit}, paired by seed)": closing,
  }


def _arms(
  chosen: HorizonSweep, layers: int, stop: str
) -> Sequence[tuple[str, str]]:
  """Label and name of every arm of a stop point but h = 0."""
  arms = [
    (f"h = {h}", horizon.horizon_name(h, stop)) for h in chosen.horizons[1:]
  ]
  arms += [(f"leak {b:g}", f"leak:{b:g}/{stop}") for b in chosen.leaks]
  arms += [(f"only d = {d}", f"offset:{d}/{stop}") for d in chosen.offsets]
  arms += [
    (f"h = {h} for {part} only", horizon.horizon_name(h, stop, part))
    for part in ("keys", "values")
    for h in chosen.part_horizons
  ]
  if chosen.single_layers and layers > 1:
    arms += [
      (f"layer {layer} alone blocked", name)
      for layer, name in horizon.blocked_layers(layers, stop).items()
    ]
    arms += [
      (f"layer {layer} alone open", name)
      for layer, name in horizon.open_layers(layers, stop).items()
    ]
  return arms


def _shown(found: stats.Interval | None) -> list[str]:
  if found is None:
    return ["-", "-", "-"]
  return [
    reporting.number(found.estimate),
    reporting.interval(found.ci95),
    str(found.n),
  ]


def figure(
  path: Path,
  chosen: HorizonSweep,
  values: LossByVariant,
  length: int,
  *,
  unit: str,
  setup: str,
) -> None:
  """Draws loss and fraction closed against h, and loss by leak and distance.

  Args:
    path: the PNG to write.
    chosen: the dial.
    values: the loss by variant and seed.
    length: positions a sequence.
    unit: of the loss.
    setup: task, model, training and seeds, in a line or two.

  Raises:
    OSError: the file cannot be written.
  """
  by_stop = {stop: _rows(chosen, values, length, stop) for stop in STOPS}
  horizons = np.array(by_stop[STOPS[0]][0])
  loss = f"held-out loss, {unit}"
  plain = _mean(values, CAUSAL)

  def curves(names: Mapping[str, list[str]]) -> dict[str, np.ndarray]:
    return {stop: horizon.loss_array(values, names[stop]) for stop in STOPS}

  panels: list[figures.Curves | figures.Map] = [
    figures.Curves(
      "Loss by gradient horizon",
      horizons,
      "gradient horizon h, positions",
      loss,
      {stop: rows for stop, (_, rows) in by_stop.items()},
      scale="steps",
    ),
    figures.Curves(
      "Fraction of the gap closed",
      horizons,
      "gradient horizon h, positions",
      "fraction of the myopia gap closed",
      {stop: horizon.gap_closed(rows) for stop, (_, rows) in by_stop.items()},
      {f"{horizon.CLOSED:.0%}": horizon.CLOSED},
      scale="steps",
    ),
  ]
  more: list[figures.Curves | figures.Map] = []
  if chosen.leaks:
    names = {
      stop: [
        horizon.horizon_name(0, stop),
        *(f"leak:{beta:g}/{stop}" for beta in chosen.leaks),
        CAUSAL,
      ]
      for stop in STOPS
    }
    more.append(
      figures.Curves(
        "Loss by leak",
        np.array([0.0, *chosen.leaks, 1.0]),
        "share of the future gradient let through",
        loss,
        curves(names),
        scale="steps",
      )
    )
  if chosen.offsets:
    alone = {
      stop: [f"offset:{d}/{stop}" for d in chosen.offsets] for stop in STOPS
    }
    levels = {
      f"{stop}, h = 0": _mean(values, horizon.horizon_name(0, stop))
      for stop in STOPS
    }
    more.append(
      figures.Curves(
        "Loss with gradient from one distance alone",
        np.array(chosen.offsets),
        "distance d, positions",
        loss,
        curves(alone),
        {"causal": plain, **levels},
        scale="steps",
      )
    )
  rows = [panels, more] if len(more) == len(panels) else [[*panels, *more]]
  figures.panels_figure(
    path, rows, title="How far ahead gradient must come from", setup=setup
  )


def _mean(values: LossByVariant, name: str) -> float:
  return (
    float(np.mean(list(values[name].values()))) if values[name] else math.nan
  )
