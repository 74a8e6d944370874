"""The figures of memories: curves by layer."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.common.results_writer import Drawing
from experiments.reports.memories_claims import RANDOM, VariantMemories
from experiments.reports.memories_tables import ENDINGS
from jaxlook.circuits import memories
from jaxlook.circuits import memory_study as study
from jaxlook.circuits.memory_study import (
  agreement_name,
  ending_name,
)
from jaxlook.circuits.memory_triggers import REPEATED
from jaxlook.reporting import figures
from jaxlook.reporting.figures import Curves

CAPTIONS = {
  "agreement.png": "How often the most probable token of a neuron's value"
  " follows the neuron's triggers, and the rank of the token that follows them;"
  " and the same with the triggers of other neurons of the layer.",
  "patterns.png": "Share of a neuron's k triggers that end in the same tokens"
  " as at least two of the others.",
  "activity.png": "Share of memories with a positive coefficient; their"
  " effective number; and how often no active memory prefers the token that"
  " their sum prefers.",
  "refinement.png": "How the most probable token after a layer comes about.",
}


_CASES = (memories.BOTH, memories.RESIDUAL, memories.FF, memories.NEITHER)


def drawings(
  found: Sequence[VariantMemories],
  chance: Mapping[str, float],
  *,
  title: str,
  setup: str,
) -> dict[str, Drawing]:
  """The figures that `CAPTIONS` names.

  Args:
    found: the results of every variant.
    chance: the endings that random prefixes share.
    title: of the figures.
    setup: the setup in a line or two.

  Returns:
    What to draw, by file name.
  """

  def draw(path: Path, name: str) -> None:
    rows = panels(found, chance)[name]
    figures.panels_figure(path, rows, title=title, setup=setup)

  return {
    name: Drawing(functools.partial(draw, name=name), caption)
    for name, caption in CAPTIONS.items()
  }


def panels(
  found: Sequence[VariantMemories], chance: Mapping[str, float]
) -> dict[str, list[list[Curves]]]:
  """Curves by layer, by the figure's file name.

  Args:
    found: every variant.
    chance: the endings that random prefixes share.

  Returns:
    Rows of panels for `figures.panels_figure`.
  """
  refined = [_refinement_panel(each) for each in found]
  # Four side by side would be too small to read.
  columns = 2 if len(refined) == 4 else len(refined)
  return {
    "agreement.png": [_agreement_panels(found)],
    "patterns.png": [_pattern_panels(found, chance)],
    "activity.png": [
      [
        _measure_panel(found, name, unit, name)
        for name, unit in (
          (memories.ACTIVE, "share of neurons"),
          (memories.EFFECTIVE, "memories"),
          (memories.COMPOSED, "share of positions"),
        )
      ]
    ],
    "refinement.png": [
      refined[n : n + columns] for n in range(0, len(refined), columns)
    ],
  }


def _agreement_panels(found: Sequence[VariantMemories]) -> list[Curves]:
  """Agreement of values with their triggers, and the next token's rank."""
  return [
    *(
      _measure_panel(
        found,
        f"value's token follows {words}",
        "share of live neurons",
        agreement_name(kind),
        control=agreement_name(kind, study.OTHERS),
      )
      for kind, words in (
        ("first", "the first trigger"),
        ("any", "any of the k triggers"),
      )
    ),
    _measure_panel(
      found,
      "rank of the first trigger's next token",
      "mean rank, 0 most to 1 least probable",
      study.RANK,
      control=study.RANK_OTHERS,
    ),
  ]


def _pattern_panels(
  found: Sequence[VariantMemories], chance: Mapping[str, float]
) -> list[Curves]:
  """How many triggers share an ending, next to random prefixes."""
  return [
    _measure_panel(
      found,
      f"same last {n} token{'s' * (n > 1)} as {REPEATED - 1} others",
      "share of triggers",
      ending_name(n, "coverage"),
      levels={RANDOM: chance[ending_name(n, "coverage")]},
    )
    for n in ENDINGS
  ]


def _measure_panel(
  found: Sequence[VariantMemories],
  title: str,
  ylabel: str,
  measure: str,
  *,
  control: str | None = None,
  levels: Mapping[str, float] | None = None,
) -> Curves:
  """A measure by layer, with one curve per variant.

  Args:
    found: the results of every variant.
    title: of the panel.
    ylabel: the measure's unit.
    measure: the measure to show.
    control: the same measure with other neurons' triggers, shown for the first
      variant; None leaves it out.
    levels: horizontal lines by name.

  Returns:
    The panel.
  """
  first = found[0]
  curves = {each.variant: each.found.by_layer[measure].T for each in found}
  if control is not None:
    values = first.found.by_layer[control].T
    curves[f"{first.variant}, other neurons' triggers"] = values
  return _by_layer(first.layers, title, ylabel, curves, levels)


def _refinement_panel(each: VariantMemories) -> Curves:
  """How the most probable token comes about, by layer."""
  return _by_layer(
    each.layers,
    each.variant,
    "share of positions",
    {
      name: each.found.by_layer[name].T
      for name in (memories.RESIDUAL_FINAL, *_CASES)
    },
  )


def _by_layer(
  layers: int,
  title: str,
  ylabel: str,
  curves: Mapping[str, np.ndarray],
  levels: Mapping[str, float] | None = None,
) -> Curves:
  return Curves(
    title=title,
    x=np.arange(layers),
    xlabel="layer",
    ylabel=ylabel,
    curves=curves,
    levels=levels or {},
    scale="steps",
  )
