"""The report of `local_myopia`: claims, tables and the figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.common.results_writer import Cell, Drawing, Results
from experiments.common.study import Study
from jaxlook import reporting, stats
from jaxlook.numerals import counted
from jaxlook.reporting import figures
from jaxlook.stats.claims import ABOVE_0
from jaxlook.stats.myopia_gap import CAUSAL, by_variant, diverged, source_of

LossByVariant = Mapping[str, Mapping[int, float]]
CrossedLosses = Mapping[str, Mapping[int, float]]
"""The loss by evaluation (whose weights on whose context) and seed."""

STOPS = ("residual", "kv")
LOCAL = tuple(f"teacher/{stop}" for stop in STOPS)
_FIGURE = "bonus.png"


def results(
  study: Study,
  cells: Sequence[Cell],
  crossed: Mapping[str, CrossedLosses],
) -> Results:
  """Collects tables, figure and claims.

  Args:
    study: what was trained.
    cells: of all arms.
    crossed: the crossed evaluations, by stop point.

  Returns:
    The results to write.
  """
  losses = by_variant(cells, "loss")
  bonus_source = study.source
  if not study.on_text:
    bonus_source = "jaxlook's own; the published bonus is on text"
  return Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    notes=(
      "A local model reads the vanilla context while it computes its own, the"
      " local context. Local weights on local context run with ordinary"
      " attention.",
    ),
    figures={
      _FIGURE: Drawing(
        lambda path: draw(path, study, losses, crossed),
        "Left: held-out loss. Right: crossed evaluations, weights of one model"
        " on the context of another. Mean and 95% t band over"
        f" {counted(len(study.problem.seeds), 'seed')}.",
      )
    },
    tables=tables(study.unit, losses, diverged(cells), crossed),
    claims=[
      claim
      for stop in STOPS
      for claim in claims(
        losses,
        stop,
        unit=study.unit,
        gap_source=study.source,
        bonus_source=bonus_source,
      )
    ],
    cells=cells,
  )


def claims(
  losses: LossByVariant,
  stop: str,
  *,
  unit: str,
  gap_source: str,
  bonus_source: str,
) -> list[stats.Claim]:
  """The gap and the bonus at one stop point.

  Args:
    losses: the loss by `causal`, `myopic/STOP` and `teacher/STOP`, and seed.
    stop: the stop point.
    unit: of the loss.
    gap_source: of the claim that there is a gap.
    bonus_source: of the claims on the bonus.

  Returns:
    Claims that the gap and the bonus are positive, and that the bonus is
    smaller than the gap; none with fewer than two common seeds.
  """
  vanilla = losses[CAUSAL]
  pairs = {
    "gap": (losses[f"myopic/{stop}"], vanilla, "myopic minus vanilla"),
    "bonus": (vanilla, losses[f"teacher/{stop}"], "vanilla minus local"),
  }
  shared = vanilla.keys() & pairs["gap"][0].keys() & pairs["bonus"][1].keys()
  if len(shared) < 2:
    return []
  differences = {
    name: {seed: high[seed] - low[seed] for seed in shared}
    for name, (high, low, _) in pairs.items()
  }
  made = [
    stats.claim(
      f"{stop}/{name}",
      f"the {name} is positive; the estimate is {words}, paired by seed",
      source_of(stop, gap_source if name == "gap" else bonus_source),
      unit,
      stats.compare(high, low),
      **ABOVE_0,
    )
    for name, (high, low, words) in pairs.items()
  ]
  made.append(
    stats.claim(
      f"{stop}/bonus_below_gap",
      "the bonus is smaller than the gap; the estimate is gap minus bonus,"
      " paired by seed",
      source_of(stop, bonus_source),
      unit,
      stats.compare(differences["gap"], differences["bonus"]),
      **ABOVE_0,
    )
  )
  return made


def tables(
  unit: str,
  losses: LossByVariant,
  lost: Mapping[str, Sequence[int]],
  crossed: Mapping[str, CrossedLosses],
) -> dict[str, reporting.Rows]:
  """Losses, their differences, and the crossed evaluations.

  Args:
    unit: of the loss.
    losses: held-out loss by variant and seed.
    lost: the seeds that diverged, by variant.
    crossed: the crossed evaluations, by stop point.

  Returns:
    Rows by title.
  """
  return {
    f"Held-out loss, {unit}": reporting.variant_table(losses, lost, {}),
    "Gap and bonus, paired by seed": reporting.comparison_table(
      comparisons(losses)
    ),
    **{
      f"Crossed evaluations, stop point {stop}, {unit}": (
        reporting.variant_table(by_seed, {}, {})
      )
      for stop, by_seed in crossed.items()
    },
  }


def comparisons(losses: LossByVariant) -> dict[str, stats.Comparison]:
  """Gap and bonus of both stop points, if the arms have two common seeds."""
  pairs = {}
  for stop, local in zip(STOPS, LOCAL, strict=True):
    pairs[f"gap, {stop}"] = (f"myopic/{stop}", CAUSAL)
    pairs[f"bonus, {stop}"] = (CAUSAL, local)
  return {
    f"{name}: {high} - {low}": stats.compare(losses[high], losses[low])
    for name, (high, low) in pairs.items()
    if len(losses[high].keys() & losses[low].keys()) >= 2
  }


def draw(
  path: Path,
  study: Study,
  losses: LossByVariant,
  crossed: Mapping[str, CrossedLosses],
) -> None:
  """Draws the losses of the arms and of the crossed evaluations.

  Args:
    path: the PNG to write.
    study: title, setup, unit and seeds.
    losses: held-out loss by variant and seed.
    crossed: the crossed evaluations, by stop point.

  Raises:
    OSError: the file cannot be written.
  """
  seeds, unit = study.problem.seeds, f"held-out loss, {study.unit}"
  evaluations = list(next(iter(crossed.values())))
  trained = figures.Curves(
    title="Gap and bonus",
    x=["myopic", "vanilla", "local"],
    xlabel="training",
    ylabel=unit,
    curves={
      stop: np.array(
        [
          [losses[name].get(seed, np.nan) for seed in seeds]
          for name in (f"myopic/{stop}", CAUSAL, local)
        ]
      )
      for stop, local in zip(STOPS, LOCAL, strict=True)
    },
    scale="steps",
  )
  evaluated = figures.Curves(
    title="Crossed",
    x=[name.replace(", ", ",\n") for name in evaluations],
    xlabel="evaluation",
    ylabel=unit,
    curves={
      stop: np.array([list(by_seed[name].values()) for name in evaluations])
      for stop, by_seed in crossed.items()
    },
    scale="steps",
  )
  figures.panels_figure(
    path,
    [[trained, evaluated]],
    title=study.title,
    setup=f"{study.setup}; {counted(len(seeds), 'seed')}",
  )
