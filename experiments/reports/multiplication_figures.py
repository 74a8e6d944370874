"""The figures of `multiplication`: digits, lengths and plans."""

from collections.abc import Mapping

import numpy as np

from experiments.common.results_writer import Drawing
from experiments.reports.multiplication_claims import Arm, whole
from jaxlook import reporting
from jaxlook.planning.products import plans
from jaxlook.planning.products.measures import ProductResults
from jaxlook.reporting import figures
from jaxlook.tasks.multiplication import Multiplication

_SHARE = "share of products"


def drawings(
  tasks: Mapping[str, Multiplication],
  found: Mapping[Arm, ProductResults],
  *,
  frequency: np.ndarray,
  setup: str,
) -> dict[str, Drawing]:
  """Digits, lengths and plans.

  Args:
    tasks: by setting.
    found: results by arm.
    frequency: loss of a predictor that knows only the frequency of each digit
      at each place, nats, [K].
    setup: task, model, training and seeds, in a line or two.

  Returns:
    What to draw, by file name.
  """
  mean = "mean and 95% t interval over seeds"
  return {
    "digits.png": Drawing(
      lambda path: figures.panels_figure(
        path,
        [
          [_digits(found, setting, part) for setting in tasks]
          for part in ("accuracies", "losses")
        ],
        title="Products digit by digit",
        setup=setup,
      ),
      "Accuracy on operands of full length, and loss over all lengths, by digit"
      f" of the answer, the lowest first; {mean}. A predictor that knows only"
      " the frequency of each digit at each place has losses of "
      + ", ".join(reporting.number(float(each)) for each in frequency)
      + " nats.",
    ),
    "lengths.png": Drawing(
      lambda path: figures.panels_figure(
        path,
        _grids(tasks, found),
        title="Whole products right, by the lengths of a and b",
        setup=setup,
      ),
      "Share of whole products right, mean over seeds.",
    ),
    "plans.png": Drawing(
      lambda path: figures.panels_figure(
        path,
        [
          [_plans(tasks[setting], found, setting, part) for setting in tasks]
          for part in ("moved", "probe")
        ],
        title="Digits computed before they are written, and whether they are"
        " used",
        setup=setup,
      ),
      "Above: share of the digits that become the donor's when the stream into"
      " the last layer is swapped at a place. Below: accuracy of a linear probe"
      " of the last layer's output at the end of each place, mean over the"
      f" digits of the answer. {mean.capitalize()}.",
    ),
  }


def _grids(
  tasks: Mapping[str, Multiplication], found: Mapping[Arm, ProductResults]
) -> list[list[figures.Map]]:
  """One row per setting, one column per variant."""
  variants = list(dict.fromkeys(variant for _, variant in found))
  return [
    [
      _grid(found[setting, variant], f"{variant}, {setting}")
      for variant in variants
    ]
    for setting in tasks
  ]


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
