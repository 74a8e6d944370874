"""Figures of an experiment, as PNG: labelled, with bands over seeds.

`ladder_figure` shows an ablation, `panels_figure` any grid of curves, maps and
points.
The colours are those of Okabe and Ito (2008), told apart by colour-blind
readers; curves differ in their markers as well, for print. Every figure
carries its setup. Nothing is computed here but intervals for display.
"""

import dataclasses
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from jaxlook import stats

_MARKERS = "osD^vPX*"
_COLOURS = (
  "#0072b2",
  "#e69f00",
  "#d55e00",
  "#666666",
  "#009e73",
  "#cc79a7",
  "#56b4e9",
  "#000000",
)


@dataclasses.dataclass(frozen=True)
class Curves:
  """A panel of curves with bands over seeds.

  Attributes:
    title: of the panel.
    x: where the points lie, [R]; names for scale "steps", too.
    xlabel: what x is, with its unit.
    ylabel: what the values are, with their unit.
    curves: by label, values [R, E] for every seed; NaN where there is none.
    levels: by label, values to draw as horizontal lines.
    scale: of x: "linear", "log" (to base 2, from 0 on), "log10" (sizes, each
      with its label) or "steps" (x are categories, evenly spaced).
  """

  title: str
  x: np.ndarray | Sequence[float] | Sequence[str]
  xlabel: str
  ylabel: str
  curves: Mapping[str, np.ndarray]
  levels: Mapping[str, float] = dataclasses.field(default_factory=dict)
  scale: Literal["linear", "log", "log10", "steps"] = "linear"


@dataclasses.dataclass(frozen=True)
class Map:
  """A panel of coloured cells.

  Attributes:
    title: of the panel.
    values: [Y, X]; NaN is left blank.
    xlabel: what the columns are.
    ylabel: what the rows are.
    unit: what the colours are, with their unit.
    signed: whether zero is the middle of the colours.
    xticks: labels of the columns; their indices by default.
    yticks: labels of the rows; their indices by default.
  """

  title: str
  values: np.ndarray
  xlabel: str
  ylabel: str
  unit: str
  signed: bool = False
  xticks: Sequence[str] | None = None
  yticks: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True)
class Scatter:
  """A panel of points, coloured by a value that has a sign.

  Attributes:
    title: of the panel.
    x: where the points lie, [P].
    y: where the points lie, [P].
    values: the colours, [P]; zero is the middle.
    xlabel: what x is, with its unit.
    ylabel: what y is, with its unit.
    unit: what the colours are, with their unit.
  """

  title: str
  x: np.ndarray
  y: np.ndarray
  values: np.ndarray
  xlabel: str
  ylabel: str
  unit: str


def panels_figure(
  path: Path,
  rows: Sequence[Sequence[Curves | Map | Scatter]],
  *,
  title: str,
  setup: str,
) -> None:
  """Draws a grid of panels.

  Args:
    path: the PNG to write.
    rows: the panels of each row; all rows are of one length.
    title: what is shown.
    setup: task, model, training and seeds, in a line or two.

  Raises:
    OSError: the file cannot be written.
  """
  columns = len(rows[0])
  width, height = max(4.6 * columns, 6.5), 3.7 * len(rows) + 0.9
  figure = Figure(figsize=(width, height), layout="constrained")
  figure.suptitle(f"{title}\n\n", fontsize=12)
  shown = textwrap.fill(setup, int(width * 17))
  figure.text(
    0.5,
    1 - 0.36 / height,
    shown,
    ha="center",
    va="top",
    fontsize=7.5,
    color="#444444",
  )
  grid = figure.subplots(len(rows), columns, squeeze=False)
  labels: dict[str, int] = {}
  for row, line in zip(rows, grid, strict=True):
    for panel, axes in zip(row, line, strict=True):
      axes.set_title(panel.title, fontsize=9)
      axes.set_xlabel(panel.xlabel, fontsize=9)
      axes.set_ylabel(panel.ylabel, fontsize=9)
      axes.tick_params(labelsize=8)
      if isinstance(panel, Curves):
        _draw_curves(axes, panel, labels)
      elif isinstance(panel, Scatter):
        _draw_scatter(figure, axes, panel)
      else:
        _draw_map(figure, axes, panel)
  shown_by_label = {
    label: handle
    for axes in grid.flat
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
  }
  if len(shown_by_label) > 1:
    # Outside, for within a panel it would lie on the curves.
    figure.legend(
      shown_by_label.values(),
      shown_by_label.keys(),
      loc="outside lower center",
      ncols=min(len(shown_by_label), 1 + int(width / 2.4)),
      frameon=False,
      fontsize=8,
    )
  _write_png(figure, path)


def _draw_curves(axes: Axes, panel: Curves, labels: dict[str, int]) -> None:
  """Draws curves; a label looks the same in all panels of a figure."""
  steps = panel.scale == "steps"
  at = np.arange(len(panel.x)) if steps else np.asarray(panel.x)
  named = isinstance(panel.x[0], str)
  for label, values in panel.curves.items():
    place = labels.setdefault(label, len(labels))
    colour = _COLOURS[place % len(_COLOURS)]
    mean, low, high = band(np.asarray(values, np.float64))
    marker = {
      "color": colour,
      "label": label,
      "marker": _MARKERS[place % len(_MARKERS)],
      "markersize": 3.5 if len(at) <= 40 else 0,
    }
    if named:
      # Between names there is nothing to draw a line through.
      bars = np.stack([mean - low, high - mean])
      shift = 0.08 * (list(panel.curves).index(label) - 0.5)
      axes.errorbar(
        at + shift, mean, yerr=bars, linestyle="none", capsize=3, **marker
      )
      continue
    axes.plot(at, mean, linewidth=1.4, **marker)
    axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
  for label, value in panel.levels.items():
    style = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))[
      labels.setdefault(label, len(labels)) % 4
    ]
    axes.axhline(value, color="#888888", linestyle=style, label=label, lw=1)
  if panel.scale == "log":
    axes.set_xscale("symlog", base=2, linthresh=1)
    axes.set_xlim(left=float(np.min(at)))
  elif panel.scale == "log10":
    axes.set_xscale("log")
    names = [EngFormatter(places=0, sep="")(float(x)) for x in at]
    # Parameters and tokens are counted in billions, not in giga.
    axes.set_xticks(at, [name.replace("G", "B") for name in names])
    axes.tick_params(axis="x", rotation=45 if len(at) > 5 else 0)
    axes.minorticks_off()
  elif panel.scale == "steps":
    names = [x if isinstance(x, str) else f"{x:g}" for x in panel.x]
    axes.set_xticks(at, names)
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(alpha=0.2)


def _draw_map(figure: Figure, axes: Axes, panel: Map) -> None:
  """Draws coloured cells with their colour bar."""
  values = np.ma.masked_invalid(np.asarray(panel.values, np.float64))
  limit = float(np.abs(values).max()) if values.count() else 1.0
  image = axes.imshow(
    values,
    aspect="auto",
    interpolation="nearest",
    cmap="PuOr_r" if panel.signed else "viridis",
    vmin=-limit if panel.signed else None,
    vmax=limit if panel.signed else None,
  )
  if panel.xticks is not None:
    axes.set_xticks(range(len(panel.xticks)), panel.xticks)
  if panel.yticks is not None:
    axes.set_yticks(range(len(panel.yticks)), panel.yticks)
  bar = figure.colorbar(image, ax=axes)
  bar.set_label(panel.unit, fontsize=8)
  bar.ax.tick_params(labelsize=7)


def _draw_scatter(figure: Figure, axes: Axes, panel: Scatter) -> None:
  """Draws coloured points with their colour bar."""
  limit = float(np.abs(panel.values).max()) or 1.0
  points = axes.scatter(
    panel.x,
    panel.y,
    c=panel.values,
    s=10,
    cmap="PuOr_r",
    vmin=-limit,
    vmax=limit,
    edgecolors="#00000055",
    linewidths=0.3,
  )
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(alpha=0.2)
  bar = figure.colorbar(points, ax=axes)
  bar.set_label(panel.unit, fontsize=8)
  bar.ax.tick_params(labelsize=7)


def ladder_figure(
  path: Path,
  *,
  curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
  finals: Mapping[str, Mapping[int, float]],
  baselines: Mapping[str, float],
  unit: str,
  title: str,
  setup: str,
) -> None:
  """Draws loss curves with seed bands, and the held-out losses of all seeds.

  Args:
    path: the PNG to write.
    curves: by variant, steps [R] and training losses [R, E].
    finals: by variant, held-out loss by seed.
    baselines: held-out losses that were not trained.
    unit: the unit of all losses.
    title: what is shown.
    setup: task, model, training and seeds, in a line or two.

  Raises:
    OSError: the file cannot be written.
  """
  figure = Figure(figsize=(10.5, 4.8), layout="constrained")
  left, right = figure.subplots(1, 2, width_ratios=(3, 2))
  figure.suptitle(f"{title}\n", fontsize=12)
  figure.text(0.5, 0.925, setup, ha="center", fontsize=7.5, color="#444444")
  colours = dict(zip(curves, _COLOURS * len(curves), strict=False))
  for variant, (steps, losses) in curves.items():
    mean, low, high = band(losses)
    left.plot(steps, mean, color=colours[variant], label=variant)
    left.fill_between(
      steps, low, high, color=colours[variant], alpha=0.2, linewidth=0
    )
  left.set_xlabel("step")
  left.set_ylabel(f"training loss, {unit}")
  left.set_title("mean and 95% t band over seeds", fontsize=9)
  left.legend(
    frameon=False,
    fontsize=8,
    loc="upper center",
    bbox_to_anchor=(0.5, -0.13),
    ncols=min(len(curves), 5),
  )
  for place, (variant, by_seed) in enumerate(finals.items()):
    values = np.asarray(list(by_seed.values()))
    colour = colours.get(variant, "#000000")
    # Side by side, so that equal values do not hide each other.
    spread = np.linspace(-0.12, 0.12, len(values)) * (len(values) > 1)
    right.plot(place + spread, values, "o", color=colour, ms=4, alpha=0.6)
    if len(values) > 1:
      summary = stats.mean_interval(values)
      right.errorbar(
        place + 0.25,
        summary.estimate,
        yerr=np.abs(np.subtract(summary.ci95, summary.estimate))[:, None],
        fmt="_",
        color=colour,
        capsize=4,
      )
  for (name, value), style in zip(
    baselines.items(), ("--", ":", "-.") * len(baselines), strict=False
  ):
    right.axhline(value, color="#999999", linestyle=style, label=name)
  right.set_xticks(range(len(finals)), list(finals), rotation=20, ha="right")
  right.set_xlim(-0.5, len(finals) - 0.3)
  right.set_ylabel(f"held-out loss, {unit}")
  right.set_title("each seed; bar: mean and 95% t interval", fontsize=9)
  if baselines:
    right.legend(
      frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.9)
    )
  for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
  _write_png(figure, path)


def band(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Mean and 95% t band over the seeds [R, E] that are finite at each row."""
  finite = np.isfinite(losses)
  n = finite.sum(axis=1)
  filled = np.where(finite, losses, 0.0)
  mean = np.where(n > 0, filled.sum(axis=1) / np.maximum(n, 1), np.nan)
  squares = np.where(finite, (losses - mean[:, None]) ** 2, 0.0).sum(axis=1)
  error = np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))
  half = error * scipy.stats.t.ppf(0.975, np.maximum(n - 1, 1))
  half = np.where(n > 1, half, 0.0)
  return mean, mean - half, mean + half


def _write_png(figure: Figure, path: Path) -> None:
  temporary = path.with_name(f".{path.name}")
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(temporary, dpi=130, format="png")
  os.replace(temporary, path)
