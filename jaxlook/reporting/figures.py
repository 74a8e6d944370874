"""Figures as PNG: grids of curves, maps and points.

Colour-blind readers can tell the colours apart (Okabe and Ito, 2008). Curves
also differ in their markers, for print. Every figure shows its setup. Only
intervals for display are computed here. The figure of an ablation is in
`jaxlook.reporting.losses_figure`.
"""

import dataclasses
import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, LogFormatter

from jaxlook.runs.atomic_files import write_bytes

_MARKERS = "osD^vPX*<>"
COLOURS = (
  "#0072b2",
  "#e69f00",
  "#d55e00",
  "#666666",
  "#009e73",
  "#cc79a7",
  "#56b4e9",
  "#000000",
)


Spread = Literal["interval", "quartiles", "range"]


@dataclasses.dataclass(frozen=True)
class Curves:
  """A panel of curves with bands over seeds, or over rounds of timing.

  Attributes:
    title: of the panel.
    x: positions of the points, [R]; names are possible with scale "steps".
    xlabel: what x is, with its unit.
    ylabel: what the values are, with their unit.
    curves: by label, values [R, E], one per seed; NaN where there is none.
    levels: by label, values to draw as horizontal lines.
    scale: of x: "linear", "log" (to base 2, from 0 on), "log2" (powers of two,
      each with its label), "log10" (sizes, each with its label) or "steps" (x
      are categories, evenly spaced).
    yscale: of the values.
    spread: of the band: "interval" is the mean with its 95% t interval,
      "quartiles" and "range" are the median with those.
  """

  title: str
  x: np.ndarray | Sequence[float] | Sequence[str]
  xlabel: str
  ylabel: str
  curves: Mapping[str, np.ndarray]
  levels: Mapping[str, float] = dataclasses.field(default_factory=dict)
  scale: Literal["linear", "log", "log2", "log10", "steps"] = "linear"
  yscale: Literal["linear", "log"] = "linear"
  spread: Spread = "interval"


@dataclasses.dataclass(frozen=True)
class Map:
  """A panel of coloured cells.

  Attributes:
    title: of the panel.
    values: [Y, X]; NaN stays blank.
    xlabel: what the columns are.
    ylabel: what the rows are.
    unit: what the colours show, with its unit.
    signed: whether zero is the middle of the colour range.
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
  """A panel of points, coloured by a signed value.

  Attributes:
    title: of the panel.
    x: positions of the points, [P].
    y: positions of the points, [P].
    values: the colours, [P]; zero is the middle of their range.
    xlabel: what x is, with its unit.
    ylabel: what y is, with its unit.
    unit: what the colours show, with its unit.
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
    rows: the panels of each row; all rows have the same length.
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
      axes.tick_params(which="both", labelsize=8)
      if isinstance(panel, Curves):
        _draw_curves(axes, panel, labels)
      elif isinstance(panel, Scatter):
        _draw_scatter(figure, axes, panel)
      else:
        _draw_map(figure, axes, panel)
  _add_legend(figure, grid.flat, columns=1 + int(width / 2.4))
  save_png(figure, path)


def _add_legend(figure: Figure, panels: Iterable[Axes], columns: int) -> None:
  """Adds one legend for all panels, where they have more than one label."""
  handles = {
    label: handle
    for axes in panels
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
  }
  if len(handles) > 1:
    # Outside, since inside a panel it would cover curves.
    figure.legend(
      handles.values(),
      handles.keys(),
      loc="outside lower center",
      ncols=min(len(handles), columns),
      frameon=False,
      fontsize=8,
    )


def _draw_curves(axes: Axes, panel: Curves, labels: dict[str, int]) -> None:
  """Draws curves; a label has the same look in all panels of a figure."""
  at = np.arange(len(panel.x)) if panel.scale == "steps" else panel.x
  at = np.asarray(at)
  named = isinstance(panel.x[0], str)
  for label, values in panel.curves.items():
    place = labels.setdefault(label, len(labels))
    colour = COLOURS[place % len(COLOURS)]
    middle, low, high = _band(np.asarray(values, np.float64), panel.spread)
    marker = {
      "color": colour,
      "label": label,
      "marker": _MARKERS[place % len(_MARKERS)],
      "markersize": 3.5 if len(at) <= 40 else 0,
    }
    if named:
      # No line connects names.
      bars = np.stack([middle - low, high - middle])
      shift = 0.08 * (list(panel.curves).index(label) - 0.5)
      axes.errorbar(
        at + shift, middle, yerr=bars, linestyle="none", capsize=3, **marker
      )
      continue
    axes.plot(at, middle, linewidth=1.4, **marker)
    axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
  for label, value in panel.levels.items():
    style = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))[
      labels.setdefault(label, len(labels)) % 4
    ]
    axes.axhline(value, color="#888888", linestyle=style, label=label, lw=1)
  _scale_axes(axes, panel, at)
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(alpha=0.2)


def _scale_axes(axes: Axes, panel: Curves, at: np.ndarray) -> None:
  """Sets the scales of both axes, and the labels of x at its points."""
  axes.set_yscale(panel.yscale)
  if panel.scale == "log":
    axes.set_xscale("symlog", base=2, linthresh=1)
    axes.set_xlim(left=float(np.min(at)))
  elif panel.scale == "log2":
    axes.set_xscale("log", base=2)
    ticks = np.unique(at)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
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


def _band(
  values: np.ndarray, spread: Spread
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Middle, lower and upper end of the values [R, E] at each row."""
  if spread == "interval":
    return band(values)
  share = 25 if spread == "quartiles" else 0
  ends = np.full((3, len(values)), np.nan)
  for place, row in enumerate(values):
    finite = row[np.isfinite(row)]
    if finite.size:
      ends[:, place] = np.percentile(finite, (50, share, 100 - share))
  middle, low, high = ends
  return middle, low, high


def band(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Mean and 95% t band of losses [R, E], over the finite seeds of each row."""
  finite = np.isfinite(losses)
  n = finite.sum(axis=1)
  filled = np.where(finite, losses, 0.0)
  mean = np.where(n > 0, filled.sum(axis=1) / np.maximum(n, 1), np.nan)
  squares = np.where(finite, (losses - mean[:, None]) ** 2, 0.0).sum(axis=1)
  error = np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))
  half = error * scipy.stats.t.ppf(0.975, np.maximum(n - 1, 1))
  half = np.where(n > 1, half, 0.0)
  return mean, mean - half, mean + half


def save_png(figure: Figure, path: Path) -> None:
  """Writes a figure as PNG, whole or not at all, making its folder."""
  _show_names_as_they_are(figure)
  with io.BytesIO() as buffer:
    figure.savefig(buffer, dpi=130, format="png")
    write_bytes(path, buffer.getvalue())


def _show_names_as_they_are(figure: Figure) -> None:
  """Shows `$`, which starts a formula in Matplotlib, as a dollar sign.

  Names of texts and tokens contain any characters. Only the powers beside a
  logarithmic axis are formulas.
  """
  powers = {
    text
    for axis in figure.findobj(Axis)
    if isinstance(axis.get_major_formatter(), LogFormatter)
    for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
    for text in tick.findobj(Text)
  }
  for text in figure.findobj(Text):
    text.set_parse_math(text in powers)
