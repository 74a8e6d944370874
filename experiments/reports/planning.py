"""The report of `planning`: notes, figures and measurements."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from experiments.common import results_writer
from experiments.reports import planning_claims
from experiments.reports.planning_claims import ByVariant, modifiers
from experiments.reports.planning_tables import tables
from experiments.setups import planning_setup
from experiments.setups.planning_setup import CoupletsConfig
from jaxlook.numerals import counted
from jaxlook.planning.couplets.measure_all import (
  NamedValues,
  main_places,
  probed_places,
)
from jaxlook.planning.couplets.swaps import OTHER
from jaxlook.reporting import figures
from jaxlook.tasks import couplets_oracle as oracle
from jaxlook.tasks.couplets import Couplets
from jaxlook.training import FinishedArm

NOTES = (
  "moved / left: how far the model's prediction has moved from a planner for"
  " the couplet's own class to a planner for the donor's class, in total"
  " variation. Full transfer is 1 / 0, no transfer is 0 / 1. The place `none`"
  " is no swap, so it shows the distance between models and planners; `prompt`"
  " at layer 0 is the donor's own prompt. A model that does not plan is far"
  " from both planners without any swap. So the figure shows the shift from the"
  " prediction of the unedited model. Lines are written greedily.",
  "A probe shows that a state contains the class. A swap shows that the model"
  " uses this state.",
  results_writer.UNADJUSTED,
)

_WRITTEN = {
  "rhymes": "ends in\nthe rhyme",
  "leads": "m1 leads\nto it",
  "formed": "is a line",
  "right": "both",
  "drawn": "both, drawn",
}


def results(
  config: CoupletsConfig,
  arms: Sequence[FinishedArm],
  found: Mapping[str, ByVariant],
  untrained: Mapping[str, NamedValues],
) -> results_writer.Results:
  """Collects claims, tables, figures, cells and measurements.

  Args:
    config: the scale.
    arms: the trained arms.
    found: `named_values` of trained models, by language and variant.
    untrained: `named_probe_values` of the seeds before training, by language.

  Returns:
    The results to write.
  """
  setup = planning_setup.setup(config)
  claims, all_tables, drawings = [], {}, {}
  for name, task in config.tasks().items():
    mine = found[name]
    claims += planning_claims.claims(name, task, mine, untrained[name])
    all_tables |= {
      f"{name}: {title}": rows
      for title, rows in tables(
        task, mine, untrained[name], config.layers
      ).items()
    }
    file = f"{'-'.join(name.replace('/', ' ').split())}.png"
    drawings[file] = results_writer.Drawing(
      functools.partial(
        figure,
        task=task,
        found=mine,
        title=f"Planning: {task.key}, {name}",
        setup=f"{setup}; p = {task.p:g}; {counted(config.seeds, 'seed')}",
      ),
      f"{name}: mean and 95% t band over {counted(config.seeds, 'seed')}.",
    )
  return results_writer.Results(
    name="planning",
    title="Planning a rhyme at the line break",
    setup=setup,
    notes=NOTES,
    figures=drawings,
    tables=all_tables,
    claims=claims,
    cells=[
      cell
      for arm in arms
      for cell in results_writer.arm_cells(
        arm, _metrics(found[arm.setting][arm.variant])
      )
    ],
    measurements=measurements(found, config.seed_range),
  )


def _metrics(values: NamedValues) -> NamedValues:
  """The values that go into cells: losses and written lines."""
  heads = ("loss/RHY", "write")
  return {name: x for name, x in values.items() if name.startswith(heads)}


def figure(
  path: Path,
  task: Couplets,
  found: ByVariant,
  *,
  layer: int = 1,
  title: str,
  setup: str,
) -> None:
  """Draws losses next to exact ones, written lines, swaps and probes.

  Args:
    path: the PNG to write.
    task: the language.
    found: `named_values` by variant.
    layer: the layer whose input is swapped and probed.
    title: of the figure.
    setup: task, model, training and seeds, in a line or two.

  Raises:
    OSError: the file cannot be written.
  """
  figures.panels_figure(
    path,
    [_behaviour(task, found), _plans(task, found, layer)],
    title=title,
    setup=setup,
  )


def _behaviour(task: Couplets, found: ByVariant) -> list[figures.Curves]:
  """The upper row: losses, written lines, and losses under cut attention."""
  classes = [*modifiers(task), "art", "e2"]
  main = [place.name for place in main_places(task)]
  readers = {}
  for reader in oracle.READERS:
    exact = oracle.losses(task, reader, True)
    # Exact losses have no seeds; two equal values give a band of width 0.
    readers[f"{reader} (exact)"] = np.array([[exact[c]] * 2 for c in classes])
  return [
    _panel(
      found,
      "Loss of RHY couplets by class of tokens",
      classes,
      "held-out loss, nats/token",
      [f"loss/RHY/{c}" for c in classes],
      readers,
    ),
    _panel(
      found,
      "Lines that the model writes",
      list(_WRITTEN.values()),
      "share of lines",
      [f"write/{name}" for name in _WRITTEN],
    ),
    _panel(
      found,
      "Attention of line 2 to a place is cut",
      main,
      "rise of the loss, nats/couplet",
      [f"cut/{place}/RHY" for place in main],
      levels={"ln 16": math.log(16)},
    ),
  ]


def _plans(
  task: Couplets, found: ByVariant, layer: int
) -> list[figures.Curves]:
  """The lower row: swaps and probes of the state at each place."""
  main = [place.name for place in main_places(task)]
  few = {place.name for place in probed_places(task)}
  probed = [place for place in main if place in few]
  swapped = [f"{OTHER}/{place}/layer{layer}" for place in main]
  return [
    _panel(
      found,
      f"State swapped with another class's, into layer {layer}",
      main,
      "shift of m1",
      [f"swap/{at}/topic/shift/RHY" for at in swapped],
    ),
    _panel(
      found,
      f"Lines written after this swap, into layer {layer}",
      main,
      "share that ends in the other class",
      [f"rewrite/{at}/ending/target/RHY" for at in swapped],
    ),
    _panel(
      found,
      f"Linear probe for the class, into layer {layer}",
      probed,
      "accuracy",
      [f"probe/{place}/layer{layer}/accuracy" for place in probed],
      levels={"chance": 1 / 16},
    ),
  ]


def _panel(
  found: ByVariant,
  title: str,
  x: Sequence[str],
  ylabel: str,
  names: Sequence[str],
  more: Mapping[str, np.ndarray] | None = None,
  levels: Mapping[str, float] | None = None,
) -> figures.Curves:
  """A panel with one curve per variant, through the values of these names."""
  curves = {
    variant: np.stack([mine[name] for name in names])
    for variant, mine in found.items()
  }
  return figures.Curves(
    title,
    x,
    "",
    ylabel,
    {**curves, **(more or {})},
    levels or {},
    scale="steps",
  )


def measurements(
  found: Mapping[str, ByVariant], seeds: Sequence[int]
) -> pa.Table:
  """Every number, one per row.

  Args:
    found: `named_values` by language and variant.
    seeds: the seeds of the arrays.

  Returns:
    A table with the columns language, variant, seed, measure and value; missing
    values are NaN.
  """
  rows = [
    (language, variant, seed, measure, float(value))
    for language, by_variant in found.items()
    for variant, numbers in by_variant.items()
    for measure, values in numbers.items()
    for seed, value in zip(seeds, values, strict=True)
  ]
  columns = ("language", "variant", "seed", "measure", "value")
  return pa.table(
    dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
  )
