"""What was found on couplets: tables, the figure, all numbers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from experiments.reports.planning_claims import ByVariant, decided, modifiers
from jaxlook import reporting
from jaxlook.planning.couplets import places
from jaxlook.planning.couplets.measure_all import (
  STRENGTHS,
  NamedValues,
  main_places,
  probed_places,
)
from jaxlook.planning.couplets.swaps import OTHER
from jaxlook.reporting import figures
from jaxlook.tasks import couplets_oracle as oracle
from jaxlook.tasks.couplets import Couplets

_PARTS = {"topic": "m1", "article": "article", "ending": "e2"}


def tables(
  task: Couplets,
  found: ByVariant,
  untrained: NamedValues,
  layers: int,
) -> dict[str, reporting.Rows]:
  """The tables of one language by their titles.

  Args:
    task: the language.
    found: `examination.numbers` by variant.
    untrained: `examination.probe_numbers` of the seeds before training.
    layers: of the models.

  Returns:
    Tables; every number is a mean over seeds with its 95% t interval.
  """
  made = {
    f"Loss of line 2 of {genre} couplets, nats": _losses(task, found, genre)
    for genre in (("RHY", "FREE") if task.p < 1.0 else ("RHY",))
  }
  made["What is written"] = _written(found)
  for variant, mine in found.items():
    made[f"Swaps, {variant}"] = _swap_table(task, mine, untrained, layers)
  made["Controls of swaps, m1"] = _controls(task, found, layers)
  for kind in ("mean difference", "random direction"):
    made[f"Steering by the {kind}"] = _steering(task, found, kind, layers)
  made["Nats of line 2 lost when it may not look at a place"] = _cuts(
    task, found
  )
  return made


def _losses(task: Couplets, found: ByVariant, genre: str) -> reporting.Rows:
  classes = [*modifiers(task), "art", "e2"]
  rows = [["", *classes, "line 2", "n"]]
  for reader in oracle.READERS if genre == "RHY" else ("blind",):
    exact = oracle.losses(task, reader, genre == "RHY")
    values = [exact[c] for c in classes]
    rows.append(
      [f"{reader} (exact)"]
      + [reporting.number(x) for x in (*values, sum(values))]
      + ["-"]
    )
  for variant, mine in found.items():
    each = [mine[f"loss/{genre}/{c}"] for c in (*classes, "line 2")]
    rows.append([variant, *map(reporting.mean, each), reporting.count(each[0])])
  return rows


def _written(found: ByVariant) -> reporting.Rows:
  names = {
    "rhymes": "ends in the rhyme",
    "leads": "m1 leads to it",
    "formed": "is a line",
    "right": "both: accuracy",
    "drawn": "accuracy, drawn",
    "beam_gain": "beam gain, nats",
  }
  rows = [["variant", *names.values(), "n"]]
  for variant, mine in found.items():
    each = [mine[f"write/{name}"] for name in names]
    rows.append([variant, *map(reporting.mean, each), reporting.count(each[0])])
  return rows


def _swap_table(
  task: Couplets, mine: NamedValues, untrained: NamedValues, layers: int
) -> reporting.Rows:
  head = ["place", "into layer"]
  head += [f"{name}: moved / left" for name in _PARTS.values()]
  head += ["m1: shift", "written: ends in r'", "modifiers that decide: for r'"]
  rows = [[*head, "probe", "shuffled", "untrained"]]
  for place in places.places(task):
    for layer in range(layers):
      at = f"{place.name}/layer{layer}"
      row = [place.name, str(layer)]
      for part in _PARTS:
        row.append(
          " / ".join(
            reporting.mean(mine[f"swap/{OTHER}/{at}/{part}/{field}/RHY"])
            for field in ("moved", "left")
          )
        )
      row.append(reporting.mean(mine[f"swap/{OTHER}/{at}/topic/shift/RHY"]))
      if f"rewrite/{OTHER}/{at}/ending/target/RHY" in mine:
        row.append(
          reporting.mean(mine[f"rewrite/{OTHER}/{at}/ending/target/RHY"])
        )
        row.append(reporting.mean(decided(mine, f"{OTHER}/{at}", "middle")))
      else:
        row += ["-"] * 2
      for numbers, kind in (
        (mine, "probe"),
        (mine, "shuffled"),
        (untrained, "probe"),
      ):
        name = f"{kind}/{at}/accuracy"
        row.append(reporting.mean(numbers[name]) if name in numbers else "-")
      rows.append(row)
  return rows


def _controls(task: Couplets, found: ByVariant, layers: int) -> reporting.Rows:
  controls = {
    "other class": ("other class", "moved", "RHY"),
    "same class": ("same class", "moved", "RHY"),
    "shuffled donor, left": ("shuffled donor", "left", "RHY"),
  }
  if task.p < 1.0:
    controls["FREE lines: shift"] = ("other class", "shift", "FREE")
  rows = [["variant", "place", "into layer", *controls, "n"]]
  for variant, mine in found.items():
    for place in main_places(task):
      for layer in range(layers):
        at = f"{place.name}/layer{layer}/topic"
        each = [
          mine[f"swap/{kind}/{at}/{field}/{genre}"]
          for kind, field, genre in controls.values()
        ]
        row = [variant, place.name, str(layer), *map(reporting.mean, each)]
        rows.append([*row, reporting.count(each[0])])
  return rows


def _steering(
  task: Couplets, found: ByVariant, kind: str, layers: int
) -> reporting.Rows:
  head = ["variant", "place", "into layer", "strength"]
  head += ["m1: moved / left", "written: ends in r'"]
  head += ["modifiers that decide: for r'", "n"]
  rows = [head]
  for variant, mine in found.items():
    for place in main_places(task)[1:]:
      for layer in range(layers):
        for strength in STRENGTHS:
          at = f"{kind}/x{strength:g}/{place.name}/layer{layer}"
          moved, left = (
            mine[f"steer/{at}/topic/{field}/RHY"] for field in ("moved", "left")
          )
          rows.append(
            [variant, place.name, str(layer), f"{strength:g}"]
            + [f"{reporting.mean(moved)} / {reporting.mean(left)}"]
            + [reporting.mean(mine[f"resteer/{at}/ending/target/RHY"])]
            + [reporting.mean(decided(mine, at, "middle", "resteer"))]
            + [reporting.count(moved)]
          )
  return rows


def _cuts(task: Couplets, found: ByVariant) -> reporting.Rows:
  genres = ("RHY", "FREE") if task.p < 1.0 else ("RHY",)
  rows = [["place", *(f"{v}, {g}" for v in found for g in genres)]]
  for place in places.places(task)[1:]:
    rows.append(
      [place.name]
      + [
        reporting.mean(mine[f"cut/{place.name}/{genre}"])
        for mine in found.values()
        for genre in genres
      ]
    )
  return rows


def figure(
  path: Path,
  task: Couplets,
  found: ByVariant,
  *,
  layer: int = 1,
  title: str,
  setup: str,
) -> None:
  """Draws losses beside the exact ones, what is written, and where plans are.

  Args:
    path: the PNG to write.
    task: the language.
    found: `examination.numbers` by variant.
    layer: the one that swaps and probes enter.
    title: what is shown.
    setup: task, model, training and seeds, in a line or two.

  Raises:
    OSError: the file cannot be written.
  """
  classes = [*modifiers(task), "art", "e2"]
  main = [place.name for place in main_places(task)]

  def panel(title, x, ylabel, names, more=None, **levels):
    curves = {
      variant: np.stack([mine[name] for name in names])
      for variant, mine in found.items()
    }
    return figures.Curves(
      *(title, x, "", ylabel, curves | (more or {})), levels, scale="steps"
    )

  readers = {}
  for reader in oracle.READERS:
    exact = oracle.losses(task, reader, True)
    # No seeds: a band of no width.
    readers[f"{reader} (exact)"] = np.array([[exact[c]] * 2 for c in classes])
  at = [f"{place}/layer{layer}" for place in main]
  few = {place.name for place in probed_places(task)}
  probed = [place for place in main if place in few]
  written = {
    "rhymes": "ends in\nthe rhyme",
    "leads": "m1 leads\nto it",
    "formed": "is a line",
    "right": "both",
    "drawn": "both, drawn",
  }
  figures.panels_figure(
    path,
    [
      [
        panel(
          "Loss of RHY couplets by class of tokens",
          classes,
          "held-out loss, nats/token",
          [f"loss/RHY/{c}" for c in classes],
          readers,
        ),
        panel(
          "Lines that the model writes",
          list(written.values()),
          "share of lines",
          [f"write/{name}" for name in written],
        ),
        panel(
          "Attention of line 2 to a place is cut",
          main,
          "nats/couplet lost",
          [f"cut/{place}/RHY" for place in main],
          **{"ln 16": math.log(16)},
        ),
      ],
      [
        panel(
          f"State swapped with another class's, into layer {layer}",
          main,
          "m1 shifts, share of the way",
          [f"swap/{OTHER}/{place}/topic/shift/RHY" for place in at],
        ),
        panel(
          f"And what is written then, into layer {layer}",
          main,
          "share that ends in the other class",
          [f"rewrite/{OTHER}/{place}/ending/target/RHY" for place in at],
        ),
        panel(
          f"Linear probe for the class, into layer {layer}",
          probed,
          "accuracy",
          [f"probe/{place}/layer{layer}/accuracy" for place in probed],
          chance=1 / 16,
        ),
      ],
    ],
    title=title,
    setup=setup,
  )


def measurements(
  found: Mapping[str, ByVariant], seeds: Sequence[int]
) -> pa.Table:
  """Every number, one a row.

  Args:
    found: `examination.numbers` by language and variant.
    seeds: of the arrays.

  Returns:
    A table with the columns language, variant, seed, measure and value; a
    value that is not there is null.
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
