"""The tables of `planning`: losses, lines, swaps, steering and cuts."""

from experiments.reports.planning_claims import ByVariant, decided, modifiers
from jaxlook import reporting
from jaxlook.planning.couplets import places
from jaxlook.planning.couplets.measure_all import (
  STRENGTHS,
  NamedValues,
  main_places,
)
from jaxlook.planning.couplets.swaps import OTHER
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
    found: `named_values` by variant.
    untrained: `named_probe_values` of the seeds before training.
    layers: number of layers of the models.

  Returns:
    Tables; every number is a mean over seeds with its 95% t interval.
  """
  made = {
    f"Loss of line 2 of {genre} couplets, nats": _losses(task, found, genre)
    for genre in (("RHY", "FREE") if task.p < 1.0 else ("RHY",))
  }
  made["Written lines"] = _written(found)
  for variant, mine in found.items():
    made[f"Swaps, {variant}"] = _swap_table(task, mine, untrained, layers)
  made["Controls of swaps, m1"] = _controls(task, found, layers)
  for kind in ("mean difference", "random direction"):
    made[f"Steering by the {kind}"] = _steering(task, found, kind, layers)
  made["Rise of the loss of line 2 if attention to a place is cut, nats"] = (
    _cuts(task, found)
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
