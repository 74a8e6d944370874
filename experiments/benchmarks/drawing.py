"""The benchmarks' figures: lines on two log axes."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxlook.runs.atomic_files import write_bytes
from jaxlook.runs.store import Store

_MARKERS = "osD^vPX*<>"


class Panel(NamedTuple):
  """A panel with two log axes.

  Attributes:
    title: of the panel.
    xlabel: what x is.
    ylabel: what the values are, with their unit.
    lines: by label, points (x, value, low, high).
  """

  title: str
  xlabel: str
  ylabel: str
  lines: Mapping[str, Sequence[tuple[float, float, float, float]]]


def draw(
  store: Store, file: str, title: str, setup: str, panels: Sequence[Panel]
) -> None:
  """Draws panels side by side into a PNG of the run folder."""
  panels = [panel for panel in panels if any(panel.lines.values())]
  if not panels:
    return
  width = 5.6 * len(panels) + 0.4
  figure = Figure(figsize=(width, 5.6), layout="constrained")
  shown = textwrap.fill(setup, int(13 * width))
  figure.suptitle(f"{title}\n{shown}", fontsize=9)
  labels = list(dict.fromkeys(label for p in panels for label in p.lines))
  handles: dict[str, Any] = {}
  for panel, axes in zip(
    panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True
  ):
    handles |= _draw_panel(axes, panel, labels)
  figure.legend(
    handles.values(),
    handles.keys(),
    loc="outside lower center",
    ncols=min(len(handles), 2 + len(panels)),
    frameon=False,
    fontsize=8,
  )
  with io.BytesIO() as buffer:
    figure.savefig(buffer, dpi=130, format="png")
    write_bytes(store.figures / file, buffer.getvalue())


def _draw_panel(
  axes: Axes, panel: Panel, labels: Sequence[str]
) -> dict[str, Any]:
  """Draws one panel and returns what its lines look like, by label."""
  handles = {}
  for label, points in panel.lines.items():
    place = labels.index(label)
    x, value, low, high = np.array(sorted(points)).T
    handles[label] = axes.errorbar(
      x,
      value,
      yerr=np.maximum([value - low, high - value], 0.0),
      label=label,
      color=f"C{place % 10}",
      marker=_MARKERS[place % len(_MARKERS)],
      markersize=4,
      linewidth=1.2,
      capsize=2,
    )
  axes.set_xscale("log", base=2)
  axes.set_yscale("log")
  ticks = sorted({point[0] for line in panel.lines.values() for point in line})
  axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
  axes.set_title(panel.title, fontsize=9)
  axes.set_xlabel(panel.xlabel, fontsize=9)
  axes.set_ylabel(panel.ylabel, fontsize=9)
  axes.tick_params(which="both", labelsize=8)
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(alpha=0.2)
  return handles
