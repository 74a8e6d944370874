"""What was found of products: tables and figures."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.reports.multiplication_claims import Arm, metrics, whole
from jaxlook import reporting, stats
from jaxlook.planning.products import plans
from jaxlook.planning.products.measures import ProductResults
from jaxlook.reporting import figures
from jaxlook.tasks.multiplication import Multiplication

_SHARE = "share of products"


def tables(
  tasks: Mapping[str, Multiplication],
  found: Mapping[Arm, ProductResults],
  untrained: Mapping[str, ProductResults],
) -> dict[str, reporting.Rows]:
  """Products, their digits, lengths, swaps and probes, by arm.

  Args:
    tasks: by setting.
    found: measured models by arm.
    untrained: models before training, by setting.

  Returns:
    Tables by title; every number with its 95% t interval over n seeds.
  """
  size = next(iter(tasks.values())).digits
  names = {
    "right": "right, all lengths evenly",
    "whole": "right, of full length",
    "full_loss": "their loss, nats/digit",
    "greedy_whole": "greedy decoding",
    "beam_whole": "beam search",
    "beam_gain": "beam gain, nats",
  }
  products = [["setting", "variant", *names.values(), "n"]]
  for (setting, variant), each in found.items():
    mine = metrics(tasks[setting], each)
    shown = [_shown(mine[name]) for name in names]
    products.append([setting, variant, *shown, _count(mine["whole"])])
  return {
    f"Whole products of numbers of up to {size} digits": products,
    "Accuracy by digit, the lowest first": _by_digit(found, "accuracies"),
    "Loss by digit over all lengths, nats": _by_digit(found, "losses"),
    "Whole products right by lengths of a x b": _lengths(found, size),
    "After a swap, of the digits that differ": _swaps(tasks, found),
    "Probes of the last layer's output": _probes(tasks, found, untrained),
  }


def _by_digit(found: Mapping[Arm, ProductResults], part: str) -> reporting.Rows:
  count = getattr(next(iter(found.values())), part).shape[1]
  rows = [["setting", "variant", *(f"c_{k}" for k in range(count)), "n"]]
  for (setting, variant), each in found.items():
    values = getattr(each, part)
    shown = [_shown(column) for column in values.T]
    rows.append([setting, variant, *shown, _count(values[:, 0])])
  return rows


def _lengths(found: Mapping[Arm, ProductResults], size: int) -> reporting.Rows:
  pairs = list(itertools.product(range(size), repeat=2))
  heads = [f"{a + 1} x {b + 1}" for a, b in pairs]
  rows = [["setting", "variant", *heads, "n"]]
  for (setting, variant), each in found.items():
    shown = [_shown(each.grid[:, a, b]) for a, b in pairs]
    rows.append([setting, variant, *shown, _count(whole(each))])
  return rows


def _swaps(tasks, found: Mapping[Arm, ProductResults]) -> reporting.Rows:
  rows = [["setting", "variant", "into layer", "place", "moved", "left", "n"]]
  for (setting, variant), each in found.items():
    moved, left = each.effect("moved"), each.effect("left")
    for layer in range(moved.shape[1]):
      for index, place in enumerate(plans.places(tasks[setting])):
        here = moved[:, layer, index]
        shown = [_shown(here), _shown(left[:, layer, index])]
        rows.append([setting, variant, str(layer), place, *shown, _count(here)])
  return rows


def _probes(tasks, found, untrained) -> reporting.Rows:
  rows = [["setting", "variant", "place", "probe", "untrained", "shuffled"]]
  rows[0].append("n")
  for (setting, variant), each in found.items():
    for index, place in enumerate(plans.places(tasks[setting])):
      # The prompt ends where its last part does.
      if place == plans.PROMPT:
        continue
      values = [
        model[:, -1, index].mean(axis=-1)
        for model in (each.probe, untrained[setting].probe, each.shuffled)
      ]
      shown = [_shown(value) for value in values]
      rows.append([setting, variant, place, *shown, _count(values[0])])
  return rows


def _shown(values: np.ndarray) -> str:
  values = values[np.isfinite(values)]
  if len(values) < 2:
    return "-"
  found = stats.mean_interval(values)
  return f"{reporting.number(found.estimate)} {reporting.interval(found.ci95)}"


def _count(values: np.ndarray) -> str:
  return str(np.isfinite(values).sum())


def measurements(
  tasks: Mapping[str, Multiplication],
  found: Mapping[Arm, ProductResults],
  seeds: Sequence[int],
) -> pa.Table:
  """Swaps and probes of every seed, layer, place and digit, one a row.

  Args:
    tasks: by setting.
    found: measured models by arm.
    seeds: of their leading axes.

  Returns:
    Columns setting, variant, seed, measure, layer, place, digit and value;
    `moved` and `left` as shares of all products, as in `ProductResults`.
  """

  def rows() -> Iterator[tuple[Any, ...]]:
    for (setting, variant), each in found.items():
      where = list(plans.places(tasks[setting]))
      for measure in ("moved", "left", "probe", "shuffled"):
        values = getattr(each, measure)
        for (e, layer, s, digit), value in np.ndenumerate(values):
          place = where[s]
          yield (
            *(setting, variant, seeds[e], measure, layer, place, digit),
            float(value),
          )

  names = (
    *("setting", "variant", "seed", "measure", "layer", "place", "digit"),
    "value",
  )
  columns = zip(*rows(), strict=True)
  return pa.table(dict(zip(names, map(list, columns), strict=True)))


def draw(
  folder: Path,
  tasks: Mapping[str, Multiplication],
  found: Mapping[Arm, ProductResults],
  *,
  frequency: np.ndarray,
  setup: str,
) -> dict[str, str]:
  """Draws digits, lengths and plans.

  Args:
    folder: where to.
    tasks: by setting.
    found: measured models by arm.
    frequency: loss of who knows each digit's frequencies only, nats, [K].
    setup: task, model, training and seeds, in a line or two.

  Returns:
    Captions by file name.

  Raises:
    OSError: a file cannot be written.
  """
  variants = list(dict.fromkeys(variant for _, variant in found))
  figures.panels_figure(
    folder / "digits.png",
    [
      [_digits(found, setting, part) for setting in tasks]
      for part in ("accuracies", "losses")
    ],
    title="Products digit by digit",
    setup=setup,
  )
  figures.panels_figure(
    folder / "lengths.png",
    [
      [
        _grid(found[setting, variant], f"{variant}, {setting}")
        for variant in variants
      ]
      for setting in tasks
    ],
    title="Whole products right, by the lengths of a and b",
    setup=setup,
  )
  figures.panels_figure(
    folder / "plans.png",
    [
      [_plans(tasks[setting], found, setting, part) for setting in tasks]
      for part in ("moved", "probe")
    ],
    title="What is ready before it is asked for, and what hangs on it",
    setup=setup,
  )
  mean = "mean and 95% t interval over seeds"
  return {
    "digits.png": f"Accuracy on operands of full length, and loss over all"
    f" lengths, by digit of the answer, the lowest first; {mean}. Who knows"
    " only how often each digit stands where has losses of "
    + ", ".join(reporting.number(float(each)) for each in frequency)
    + " nats.",
    "lengths.png": "Share of whole products right, mean over seeds.",
    "plans.png": "Above: share of the digits that turn to the donor's when the"
    " stream into the last layer is swapped at a place. Below: accuracy of a"
    " linear probe of the last layer's output at the end of each place, mean"
    f" over the digits of the answer. {mean.capitalize()}.",
  }


def _of(
  found: Mapping[Arm, ProductResults], setting: str
) -> dict[str, ProductResults]:
  return {v: each for (s, v), each in found.items() if s == setting}


def _digits(found, setting: str, part: str) -> figures.Curves:
  curves = {v: getattr(x, part).T for v, x in _of(found, setting).items()}
  count = len(next(iter(curves.values())))
  return figures.Curves(
    f"{'Accuracy' if part == 'accuracies' else 'Loss'}, {setting}",
    np.arange(count),
    "digit of the answer, the lowest first",
    _SHARE if part == "accuracies" else "nats/digit",
    curves,
  )


def _grid(found: ProductResults, title: str) -> figures.Map:
  names = [str(count + 1) for count in range(found.grid.shape[1])]
  alive = found.grid[np.isfinite(whole(found))]
  return figures.Map(
    title,
    alive.mean(axis=0),
    "digits of b",
    "digits of a",
    _SHARE,
    xticks=names,
    yticks=names,
  )


def _plans(task: Multiplication, found, setting: str, part: str):
  names = [name for name in plans.places(task) if name != plans.PROMPT]
  curves = {}
  for variant, each in _of(found, setting).items():
    values = (
      each.effect("moved") if part == "moved" else each.probe.mean(axis=-1)
    )
    curves[variant] = values[:, -1, : len(names)].T
  return figures.Curves(
    f"{'Swapped' if part == 'moved' else 'Probed'}, {setting}",
    names,
    "place",
    "share of digits moved" if part == "moved" else "accuracy",
    curves,
    scale="steps",
  )
