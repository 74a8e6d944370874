"""The report of `horizon`: tables and the figure."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.common.results_writer import Cell, Drawing, Results
from experiments.common.study import Study
from experiments.reports.horizon_claims import claims, losses_by_horizon
from jaxlook import reporting, stats
from jaxlook.lookahead import horizon
from jaxlook.lookahead.horizon import CAUSAL, STOPS, HorizonSweep, LossByVariant
from jaxlook.numerals import counted
from jaxlook.reporting import figures
from jaxlook.stats.myopia_gap import by_variant, diverged

_FIGURE = "dial.png"


def results(
  study: Study,
  sweep: HorizonSweep,
  cells: Sequence[Cell],
  reach: tuple[int, int] | None,
) -> Results:
  """Collects tables, figure and claims of the sweep.

  Args:
    study: what was trained.
    sweep: its horizons, leaks and distances.
    cells: of all arms.
    reach: bounds on the horizon that the task needs; None if not known.

  Returns:
    The results to write.
  """
  values, model = by_variant(cells, "loss"), study.problem.model
  length, unit = model.max_length, study.unit
  seeds = counted(len(study.problem.seeds), "seed")
  arms = reporting.variant_table(values, diverged(cells), {})
  return Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    figures={
      _FIGURE: Drawing(
        lambda path: figure(
          path,
          sweep,
          values,
          length,
          unit=unit,
          setup=f"{study.setup}; {seeds}",
        ),
        "Held-out loss and the fraction of the gap closed: mean and 95% t band"
        f" over {seeds}; h = {length - 1} is ordinary training.",
      )
    },
    tables={
      **tables(sweep, values, length, model.layers, unit),
      f"Held-out loss of every arm, {unit}": arms,
    },
    claims=claims(sweep, values, length, reach, unit=unit, source=study.source),
    cells=cells,
  )


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
    length: positions per sequence.
    layers: layers of the model.
    unit: of the loss.

  Returns:
    Tables by title; every number has its 95% interval and n.
  """
  needed = [
    ["stop point", "", "mean", "95% t interval", "n", "each seed"],
  ]
  closing = [
    ["stop point", "arm", "fraction of the gap closed", "95% t interval", "n"]
  ]
  for stop in STOPS:
    horizons, losses_RxE = losses_by_horizon(chosen, values, length, stop)
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
  """Label and name of every arm of a stop point except h = 0."""
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
    chosen: the sweep.
    values: the loss by variant and seed.
    length: positions per sequence.
    unit: of the loss.
    setup: task, model, training and seeds, in a line or two.

  Raises:
    OSError: the file cannot be written.
  """
  loss = f"held-out loss, {unit}"
  panels = _horizon_panels(chosen, values, length, loss)
  more = []
  if chosen.leaks:
    more.append(_leak_panel(chosen, values, loss))
  if chosen.offsets:
    more.append(_offset_panel(chosen, values, loss))
  figures.panels_figure(
    path,
    [panels, more] if len(more) == len(panels) else [[*panels, *more]],
    title="How far ahead gradient must reach",
    setup=setup,
  )


def _horizon_panels(
  chosen: HorizonSweep, values: LossByVariant, length: int, loss: str
) -> list[figures.Curves]:
  """Loss, and fraction of the gap closed, by horizon."""
  by_stop = {
    stop: losses_by_horizon(chosen, values, length, stop) for stop in STOPS
  }
  horizons = np.array(by_stop[STOPS[0]][0])
  return [
    figures.Curves(
      title="Loss by gradient horizon",
      x=horizons,
      xlabel="gradient horizon h, positions",
      ylabel=loss,
      curves={stop: losses for stop, (_, losses) in by_stop.items()},
      scale="steps",
    ),
    figures.Curves(
      title="Fraction of the gap closed",
      x=horizons,
      xlabel="gradient horizon h, positions",
      ylabel="fraction of the myopia gap closed",
      curves={
        stop: horizon.gap_closed(losses)
        for stop, (_, losses) in by_stop.items()
      },
      levels={f"{horizon.CLOSED:.0%}": horizon.CLOSED},
      scale="steps",
    ),
  ]


def _leak_panel(
  chosen: HorizonSweep, values: LossByVariant, loss: str
) -> figures.Curves:
  """Loss by the share of future gradient that passes, from 0 to 1."""
  names = {
    stop: [
      horizon.horizon_name(0, stop),
      *(f"leak:{beta:g}/{stop}" for beta in chosen.leaks),
      CAUSAL,
    ]
    for stop in STOPS
  }
  return figures.Curves(
    title="Loss by leak",
    x=np.array([0.0, *chosen.leaks, 1.0]),
    xlabel="share of the future gradient that passes",
    ylabel=loss,
    curves={stop: horizon.loss_array(values, names[stop]) for stop in STOPS},
    scale="steps",
  )


def _offset_panel(
  chosen: HorizonSweep, values: LossByVariant, loss: str
) -> figures.Curves:
  """Loss if gradient comes from one distance only, by distance."""
  names = {
    stop: [f"offset:{d}/{stop}" for d in chosen.offsets] for stop in STOPS
  }
  return figures.Curves(
    title="Loss with gradient from one distance alone",
    x=np.array(chosen.offsets),
    xlabel="distance d, positions",
    ylabel=loss,
    curves={stop: horizon.loss_array(values, names[stop]) for stop in STOPS},
    levels={
      "causal": _mean(values, CAUSAL),
      **{
        f"{stop}, h = 0": _mean(values, horizon.horizon_name(0, stop))
        for stop in STOPS
      },
    },
    scale="steps",
  )


def _mean(values: LossByVariant, name: str) -> float:
  return (
    float(np.mean(list(values[name].values()))) if values[name] else math.nan
  )
