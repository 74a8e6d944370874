"""What was found on couplets: claims, tables, the figure, all numbers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from jaxlook import figures, report, stats
from jaxlook.ablation import CAUSAL
from jaxlook.claims import Statement, judged
from jaxlook.planning.couplets import places
from jaxlook.planning.couplets.examination import (
  STRENGTHS,
  Numbers,
  main_places,
)
from jaxlook.tasks import couplets_oracle as oracle
from jaxlook.tasks.couplets import Couplets

_OURS = "jaxlook's own language; pilot of one seed before it was built"
_MA = "Ma and Rui 2026, arXiv 2605.07984, on models of text"
_NEAR = {"lookup": 0.02, "tally": 0.05}
_OTHER = "other class"
_PARTS = {"topic": "m1", "article": "article", "ending": "e2"}

ByVariant = Mapping[str, Numbers]


def claims(
  name: str, task: Couplets, found: ByVariant, late_layer: int = 1
) -> list[stats.Claim]:
  """The acceptance list of the language, and its controls.

  Args:
    name: the language's, put before the claims' ids.
    task: the language.
    found: `examination.numbers` by variant, `CAUSAL` among them.
    late_layer: the layer that swaps enter; below it, at layer 0, a place holds
      no more than its own token.

  Returns:
    Those for which at least two seeds are there.
  """
  made = [
    *_bounds(task, found[CAUSAL]),
    *_gaps(task, found),
    *_swaps(task, found[CAUSAL], f"layer{late_layer}"),
  ]
  return judged(each._replace(id=f"{name}/{each.id}") for each in made)


def _bounds(task: Couplets, plain: Numbers) -> list[Statement]:
  """Ordinary training reaches the exact loss of the best reader."""
  near = _NEAR[task.key]
  classes = [f"m{i + 1}" for i in range(task.modifiers)] + ["art", "e2"]
  best = "improviser" if task.end_only else "planner"
  expected = oracle.losses(task, best, True)
  off = [np.abs(plain[f"loss/RHY/{c}"] - expected[c]) for c in classes]
  made = [
    Statement(
      "bound",
      f"{CAUSAL} is within {near} nats of the {best} at every class of tokens"
      " of line 2; the estimate is the largest distance",
      _OURS,
      "nats/token",
      np.max(off, axis=0),
      {"high": near},
    )
  ]
  if task.p < 1.0:
    blind = oracle.losses(task, "blind", False)
    off = [np.abs(plain[f"loss/FREE/{c}"] - blind[c]) for c in classes]
    made.append(
      Statement(
        "free",
        f"on FREE lines {CAUSAL} is within 0.05 nats of the blind reader, and"
        " no more is to be had; the estimate is the largest distance",
        _OURS,
        "nats/token",
        np.max(off, axis=0),
        {"high": 0.05},
      )
    )
  return made


def _gaps(task: Couplets, found: ByVariant) -> list[Statement]:
  """What a cut costs, in nats of line 2, on either genre."""
  made = []
  for variant, mine in found.items():
    if variant == CAUSAL:
      continue
    for genre in ("RHY", "FREE") if task.p < 1.0 else ("RHY",):
      line = f"loss/{genre}/line 2"
      words, bounds = _expected_gap(task, genre)
      made.append(
        Statement(
          f"{variant}/gap/{genre}",
          f"{variant} minus {CAUSAL}, line 2 of {genre} couplets: {words}",
          _OURS,
          "nats/couplet",
          mine[line] - found[CAUSAL][line],
          bounds,
          "paired by seed",
        )
      )
    if task.key == "tally":
      blind = oracle.losses(task, "blind", True)
      made.append(
        Statement(
          f"{variant}/remainder",
          f"{variant} gets less than 0.2 nats of line 1 out of features that"
          " nobody trained for it",
          _OURS,
          "nats/couplet",
          sum(blind[c] for c in (*_modifiers(task), "art", "e2"))
          - mine["loss/RHY/line 2"],
          {"high": 0.2},
        )
      )
  return made


def _expected_gap(task: Couplets, genre: str) -> tuple[str, dict[str, float]]:
  if genre == "FREE":
    return "within 0.05, for nothing was to be planned", {
      "low": -0.05,
      "high": 0.05,
    }
  if task.key == "tally":
    return "above 1: the pairs are not worked out where they stand", {
      "low": 1.0
    }
  if task.route == "open":
    return "at most 0.01: every position can read e1 itself", {"high": 0.01}
  whole = oracle.value(task, "planner")
  least = 2.6 * whole / math.log(16)
  return (
    f"at least {least:.3g} of the {whole:.3g} that line 1 is worth: nothing is"
    " stored at the line break",
    {"low": least},
  )


def _modifiers(task: Couplets) -> list[str]:
  return [f"m{i + 1}" for i in range(task.modifiers)]


def _swaps(task: Couplets, plain: Numbers, layer: str) -> list[Statement]:
  """Where the plan is stored, by swaps of ordinary training's states."""
  if task.end_only:
    return []

  def moved(place: str, kind: str = _OTHER, genre: str = "RHY") -> np.ndarray:
    return plain[f"swap/{kind}/{place}/{layer}/topic/moved/{genre}"]

  def swap(id: str, words: str, values: np.ndarray, **bounds: float):
    return Statement(f"swap/{id}", words, _OURS, "moved", values, bounds)

  made = []
  if task.key == "lookup" and task.route == "bottleneck":
    words = f"the state at NL into {layer} moves m1 in full, at least 0.95"
    made.append(swap("NL", words, moved("NL"), low=0.95))
  elif task.key == "lookup":
    words = f"the state at NL into {layer} moves m1 by at most 0.1"
    made.append(swap("NL", words, moved("NL"), high=0.1))
    made.append(
      Statement(
        "trap",
        f"a linear probe at NL into {layer} tells the class all the same, more"
        " than twice as often as chance",
        _MA,
        "accuracy",
        plain[f"probe/NL/{layer}/accuracy"],
        {"low": 2 / 16},
      )
    )
  else:
    words = (
      f"the states of all pair ends into {layer} move m1 by more than half"
    )
    made.append(swap("pair ends", words, moved("pair ends"), low=0.5))
  if task.key == "lookup" and task.p < 1.0:
    made.append(_route(task, plain))
  if task.key == "tally":
    # A donor of the same class has other pairs, so its states do move things.
    return made
  place = {"bottleneck": "NL", "open": "U"}[task.route]
  same = moved(place, "same class") - moved(places.NONE, "same class")
  made.append(
    swap(
      f"{place}/same",
      f"a donor of the same class at {place} moves m1 by at most 0.05 more than"
      " no swap",
      same,
      high=0.05,
    )
  )
  return made


def _route(task: Couplets, plain: Numbers) -> Statement:
  """Which way the class comes, by attention that is cut.

  A cut takes more than the class, so that what is left is no blind reader but a
  model at a loss; FREE couplets tell how much that costs.
  """
  place = "NL" if task.route == "bottleneck" else "e1"
  return Statement(
    f"cut/{place}",
    f"all that line 1 is worth comes from {place}: cut off from it, line 2 of"
    " RHY couplets loses ln 16 = 2.773 nats more than that of FREE ones, within"
    " 0.1",
    _OURS,
    "nats/couplet",
    plain[f"cut/{place}/RHY"] - plain[f"cut/{place}/FREE"],
    {"low": math.log(16) - 0.1, "high": math.log(16) + 0.1},
    "within a seed",
  )


def tables(
  task: Couplets,
  found: ByVariant,
  untrained: Numbers,
  layers: int,
) -> dict[str, report.Rows]:
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
  made["Controls of swaps: moved, m1"] = _controls(task, found, layers)
  for kind in ("mean difference", "random direction"):
    made[f"Steering by the {kind}"] = _steering(task, found, kind, layers)
  made["Nats of line 2 lost when it may not look at a place"] = _cuts(
    task, found
  )
  return made


def _losses(task: Couplets, found: ByVariant, genre: str) -> report.Rows:
  classes = [*_modifiers(task), "art", "e2"]
  rows = [["", *classes, "line 2", "n"]]
  for reader in oracle.READERS if genre == "RHY" else ("blind",):
    exact = oracle.losses(task, reader, genre == "RHY")
    values = [exact[c] for c in classes]
    rows.append(
      [f"{reader} (exact)"]
      + [report.number(x) for x in (*values, sum(values))]
      + ["-"]
    )
  for variant, mine in found.items():
    each = [mine[f"loss/{genre}/{c}"] for c in (*classes, "line 2")]
    rows.append([variant, *map(_shown, each), _count(each[0])])
  return rows


def _written(found: ByVariant) -> report.Rows:
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
    rows.append([variant, *map(_shown, each), _count(each[0])])
  return rows


def _swap_table(
  task: Couplets, mine: Numbers, untrained: Numbers, layers: int
) -> report.Rows:
  head = ["place", "into layer"]
  head += [f"{name}: moved / left" for name in _PARTS.values()]
  head += ["written: ends in r'", "m fit r' only", "probe", "shuffled"]
  rows = [[*head, "untrained"]]
  for place in places.places(task):
    for layer in range(layers):
      at = f"{place.name}/layer{layer}"
      row = [place.name, str(layer)]
      for part in _PARTS:
        row.append(
          " / ".join(
            _shown(mine[f"swap/{_OTHER}/{at}/{part}/{field}/RHY"])
            for field in ("moved", "left")
          )
        )
      for part in ("ending", "middle"):
        written = f"rewrite/{_OTHER}/{at}/{part}/target/RHY"
        row.append(_shown(mine[written]) if written in mine else "-")
      row += [
        _shown(mine[f"{kind}/{at}/accuracy"]) for kind in ("probe", "shuffled")
      ]
      rows.append([*row, _shown(untrained[f"probe/{at}/accuracy"])])
  return rows


def _controls(task: Couplets, found: ByVariant, layers: int) -> report.Rows:
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
        row = [variant, place.name, str(layer), *map(_shown, each)]
        rows.append([*row, _count(each[0])])
  return rows


def _steering(
  task: Couplets, found: ByVariant, kind: str, layers: int
) -> report.Rows:
  head = ["variant", "place", "into layer", "strength"]
  head += ["m1: moved / left", "written: ends in r'", "m fit r' only", "n"]
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
            + [f"{_shown(moved)} / {_shown(left)}"]
            + [
              _shown(mine[f"resteer/{at}/{part}/target/RHY"])
              for part in ("ending", "middle")
            ]
            + [_count(moved)]
          )
  return rows


def _cuts(task: Couplets, found: ByVariant) -> report.Rows:
  genres = ("RHY", "FREE") if task.p < 1.0 else ("RHY",)
  rows = [["place", *(f"{v}, {g}" for v in found for g in genres)]]
  for place in places.places(task)[1:]:
    rows.append(
      [place.name]
      + [
        _shown(mine[f"cut/{place.name}/{genre}"])
        for mine in found.values()
        for genre in genres
      ]
    )
  return rows


def _shown(values: np.ndarray) -> str:
  alive = values[np.isfinite(values)]
  if len(alive) < 2:
    return "-"
  found = stats.mean_interval(alive)
  return f"{report.number(found.estimate)} {report.interval(found.ci95)}"


def _count(values: np.ndarray) -> str:
  return str(int(np.isfinite(values).sum()))


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
  classes = [*_modifiers(task), "art", "e2"]
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
          [f"swap/{_OTHER}/{place}/topic/shift/RHY" for place in at],
        ),
        panel(
          f"And what is written then, into layer {layer}",
          main,
          "share that ends in the other class",
          [f"rewrite/{_OTHER}/{place}/ending/target/RHY" for place in at],
        ),
        panel(
          f"Linear probe for the class, into layer {layer}",
          main,
          "accuracy",
          [f"probe/{place}/accuracy" for place in at],
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
