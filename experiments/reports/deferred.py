"""The report of `deferred`: claims, tables and figures of the horizon sweep."""

import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from experiments.common.results_writer import Cell, Drawing, Results
from experiments.reports import horizon as horizon_report
from experiments.reports import horizon_claims
from experiments.setups import deferred_setup
from experiments.setups.deferred_setup import DeferredConfig
from jaxlook import reporting, stats
from jaxlook.lookahead.horizon import STOPS, LossByVariant, horizon_name
from jaxlook.numerals import counted
from jaxlook.stats import myopia_gap
from jaxlook.stats.claims import Statement, judged
from jaxlook.tasks.deferred import Deferred

_OURS = "jaxlook's own; the discrete form of Wu et al. 2024, section 4"
_UNIT = "nats/asked token"


def results(config: DeferredConfig, cells: Sequence[Cell]) -> Results:
  """Collects claims, tables and figures of every depth.

  Args:
    config: the scale.
    cells: of all arms.

  Returns:
    The results to write.
  """
  setup = deferred_setup.setup(config)
  claims, tables, drawings = [], {}, {}
  for layers in config.depths:
    setting = deferred_setup.setting(layers)
    losses = myopia_gap.by_variant(cells, "loss_over_asked", setting)
    claims += _claims(config, layers, losses)
    tables |= {
      f"{title} ({setting})": rows
      for title, rows in _tables(config, layers, losses, cells).items()
    }
    draw = functools.partial(
      horizon_report.figure,
      chosen=config.sweep(),
      values=losses,
      length=config.length,
      unit=_UNIT,
      setup=f"{setting}; {setup}; {counted(config.seeds, 'seed')}",
    )
    drawings[f"{layers}-layers.png"] = Drawing(draw, _caption(config, layers))
  return Results(
    name="deferred",
    title="Deferred: the loss by gradient horizon",
    setup=setup,
    figures=drawings,
    tables=tables,
    claims=claims,
    cells=cells,
  )


def reach(task: Deferred, layers: int) -> tuple[int, int]:
  """Bounds on the horizon that the task needs.

  Args:
    task: the task.
    layers: number of layers of the model, at least 2.

  Returns:
    Two horizons. Below the first, no gradient from a query reaches the first
    block's output at the nearest pair. From the second on, gradient reaches all
    pairs in one layer.
  """
  return math.ceil(task.delay / (layers - 1)), task.delay + task.terms - 1


def _claims(
  config: DeferredConfig, layers: int, losses: LossByVariant
) -> list[stats.Claim]:
  """The claims on models of one depth."""
  task, setting = config.task(), deferred_setup.setting(layers)
  return [
    *horizon_claims.claims(
      config.sweep(),
      losses,
      config.length,
      reach(task, layers),
      unit=_UNIT,
      source=_OURS,
      setting=setting,
    ),
    *judged(_statements(setting, losses, task.asked_chance)),
  ]


def _statements(
  setting: str, losses: LossByVariant, chance: float
) -> Iterator[Statement]:
  """Ordinary training learns the task; myopic training does not."""
  bounds = {myopia_gap.CAUSAL: ("learned", "at most a tenth", {"high": 0.1})}
  for stop in STOPS:
    whole = (f"{stop}/whole", "at least nine tenths", {"low": 0.9})
    bounds[horizon_name(0, stop)] = whole
  for variant, (id, words, bound) in bounds.items():
    yield Statement(
      f"{setting}/{id}",
      f"the loss of {variant} is {words} of chance, the loss of a predictor"
      " that knows no pair",
      _OURS,
      "share of chance",
      np.array(list(losses[variant].values())) / chance,
      bound,
    )


def _tables(
  config: DeferredConfig,
  layers: int,
  losses: LossByVariant,
  cells: Sequence[Cell],
) -> dict[str, reporting.Rows]:
  """The tables of one depth by their titles."""
  return {
    **horizon_report.tables(
      config.sweep(), losses, config.length, layers, _UNIT
    ),
    f"Held-out loss, {_UNIT}": reporting.variant_table(
      losses,
      myopia_gap.diverged(cells, deferred_setup.setting(layers)),
      {"chance": config.task().asked_chance},
    ),
  }


def _caption(config: DeferredConfig, layers: int) -> str:
  """The caption of the figure of one depth."""
  first, last = reach(config.task(), layers)
  return (
    f"{deferred_setup.setting(layers)}: mean and 95% t band over seeds; h ="
    f" {config.length - 1} is ordinary training. With h < {first} gradient"
    f" reaches no pair; with h >= {last} it reaches all pairs in one layer."
  )
