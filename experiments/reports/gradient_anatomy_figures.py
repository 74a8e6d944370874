"""The figures of the gradient anatomy."""

from pathlib import Path

import numpy as np

from experiments.common.results_writer import Drawing
from experiments.reports.gradient_anatomy_claims import (
  CUT_WORDS,
  GRADIENT_WORDS,
  AnatomyByVariant,
  DirectionsByStep,
)
from jaxlook.lookahead.gradient_anatomy import (
  CUT_METHODS,
  KINDS,
  distance_shares,
  edge_usefulness,
)
from jaxlook.lookahead.gradient_directions import STOPS
from jaxlook.reporting import figures

_PARTS = ("myopic", "future", "mixed")


def drawings(
  found: AnatomyByVariant,
  directions: DirectionsByStep,
  trained: str,
  *,
  unit: str,
  title: str,
  setup: str,
) -> dict[str, Drawing]:
  """The figures by file name.

  Args:
    found: measures by variant; the last one is a control.
    directions: by training step, the measures [E] of `measure_directions`.
    trained: the variant whose training is followed.
    unit: of the loss.
    title: of the figures.
    setup: the setup in a line or two.

  Returns:
    What to draw, with captions.
  """
  labels = {"title": title, "setup": setup}
  return {
    "shares.png": Drawing(
      lambda path: share_figure(path, found, **labels),
      "Share of the squared gradient norms by distance, all heads;"
      " mean and 95% t band over seeds.",
    ),
    "influence.png": Drawing(
      lambda path: influence_figure(path, found, **labels),
      "How much the loss at i depends on position j, mean over seeds.",
    ),
    "directions.png": Drawing(
      lambda path: direction_figure(path, directions, **labels),
      "The myopic, future and mixed gradients along training"
      f" under {trained}; mean and 95% t band.",
    ),
    "edges.png": Drawing(
      lambda path: edge_figure(path, found, unit=unit, **labels),
      "The rise of the loss when edges are cut, by distance, and by key for"
      " losses at its own and at later positions; mean and 95% t band.",
    ),
  }


def share_figure(
  path: Path, found: AnatomyByVariant, *, title: str, setup: str
) -> None:
  """Draws the shares by distance: one row per layer, one column per kind."""
  some = next(iter(found.values()))
  layers, length = some.grams["key"].shape[1], some.influence.shape[-1]
  by_kind = {
    kind: {
      v: distance_shares(one.grams[kind])["norm"] for v, one in found.items()
    }
    for kind in KINDS
  }
  rows = [
    [
      figures.Curves(
        f"{GRADIENT_WORDS[kind]}, layer {layer}",
        np.arange(length),
        "distance d from key to query, positions",
        "share of squared norms",
        {v: share[:, layer].T for v, share in by_kind[kind].items()},
        {"1 / N": 1 / length},
      )
      for kind in KINDS
    ]
    for layer in range(layers)
  ]
  figures.panels_figure(path, rows, title=title, setup=setup)


def influence_figure(
  path: Path, found: AnatomyByVariant, *, title: str, setup: str
) -> None:
  """Draws log10 of |dL_i/dx_j| and |dL_i/dtheta_j|, one row per variant."""
  rows = []
  for variant, one in found.items():
    layers = one.influence.shape[1]
    maps = [(f"layer {n}", one.influence[:, n]) for n in range(layers - 1)]
    maps += [
      ("after the last layer", one.influence[:, -1]),
      ("parameters", one.parameter_influence),
    ]
    rows.append(
      [
        figures.Map(
          f"{variant}: {name}",
          _log10(values.mean(axis=0)),
          "position j",
          "position i of the loss",
          f"log10 |dL_i/d{'theta' if name == 'parameters' else 'x'}_j|",
        )
        for name, values in maps
      ]
    )
  figures.panels_figure(path, rows, title=title, setup=setup)


def _log10(values: np.ndarray) -> np.ndarray:
  """log10 of the values; blank if 0 or far below the largest."""
  shown = values > np.nan_to_num(values).max() * 1e-8
  return np.where(shown, np.log10(np.where(shown, values, 1.0)), np.nan)


def direction_figure(
  path: Path, directions: DirectionsByStep, *, title: str, setup: str
) -> None:
  """Draws cosines and norm ratios along training."""
  steps = np.array(list(directions))

  def curve(stop: str, name: str) -> np.ndarray:
    return np.stack([found[f"{stop}/{name}"] for found in directions.values()])

  cosines = figures.Curves(
    "Angle of the myopic and the future gradient",
    steps,
    "training step",
    "cosine",
    {stop: curve(stop, "cos_myopic_future") for stop in STOPS},
    {"0": 0.0},
    scale="log",
  )
  panels = [
    figures.Curves(
      f"Norms, stop point {stop}",
      steps,
      "training step",
      "norm over the vanilla gradient's",
      {name: curve(stop, f"ratio_{name}") for name in _PARTS},
      scale="log",
    )
    for stop in STOPS
  ]
  figures.panels_figure(path, [[cosines, *panels]], title=title, setup=setup)


def edge_figure(
  path: Path, found: AnatomyByVariant, *, unit: str, title: str, setup: str
) -> None:
  """Draws the rise by distance, and by key for own and later positions.

  Args:
    path: the PNG to write.
    found: measures by variant; the last one, a control, is left out of the
      second kind of panel.
    unit: of the loss.
    title: of the figure.
    setup: the setup in a line or two.

  Raises:
    OSError: the file cannot be written.
  """
  some = next(iter(found.values()))
  layers, length = some.rises["mean"].shape[1], some.influence.shape[-1]
  rows = []
  for how in CUT_METHODS:
    use = {
      variant: edge_usefulness(one.rises[how]) for variant, one in found.items()
    }
    by_distance = [
      figures.Curves(
        f"layer {layer}: {CUT_WORDS[how]}",
        np.arange(length),
        "distance d of the cut edges, positions",
        f"rise of the loss, {unit}",
        {v: x.by_distance[:, layer].T for v, x in use.items()},
      )
      for layer in range(layers)
    ]
    by_key = [
      figures.Curves(
        f"layer {layer}: own and later positions",
        np.arange(length - 1),
        "position of the key",
        f"rise of the loss, {unit}",
        {
          f"{v}, {name}": getattr(x, name)[:, layer, :-1].T
          for v, x in list(use.items())[: max(1, len(use) - 1)]
          for name in ("own", "future")
        },
      )
      for layer in range(layers)
    ]
    rows.append([*by_distance, *by_key])
  figures.panels_figure(path, rows, title=title, setup=setup)
