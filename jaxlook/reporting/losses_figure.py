"""The figure of an ablation: training curves and held-out losses by variant."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxlook import stats
from jaxlook.reporting.figures import COLOURS, band, save_png

# Of the lines of baselines.
_STYLES = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 4)))


def losses_figure(
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
  colours = dict(zip(curves, COLOURS * len(curves), strict=False))
  _draw_training(left, curves, colours)
  left.set_ylabel(f"training loss, {unit}")
  _draw_held_out(right, finals, baselines, colours)
  right.set_ylabel(f"held-out loss, {unit}")
  for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
  save_png(figure, path)


def _draw_training(
  axes: Axes,
  curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
  colours: Mapping[str, str],
) -> None:
  """Draws training losses by step, with a band over seeds."""
  for variant, (steps, losses) in curves.items():
    mean, low, high = band(losses)
    colour = colours[variant]
    axes.plot(steps, mean, color=colour, label=variant)
    axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
  axes.set_xlabel("step")
  axes.set_title("mean and 95% t band over seeds", fontsize=9)
  axes.legend(
    frameon=False,
    fontsize=8,
    loc="upper center",
    bbox_to_anchor=(0.5, -0.13),
    ncols=min(len(curves), 5),
  )


def _draw_held_out(
  axes: Axes,
  finals: Mapping[str, Mapping[int, float]],
  baselines: Mapping[str, float],
  colours: Mapping[str, str],
) -> None:
  """Draws the held-out loss of every seed beside its mean and interval."""
  for place, (variant, by_seed) in enumerate(finals.items()):
    values = np.asarray(list(by_seed.values()))
    colour = colours.get(variant, "#000000")
    # Side by side, so that equal values do not hide each other.
    spread = np.linspace(-0.12, 0.12, len(values)) * (len(values) > 1)
    axes.plot(place + spread, values, "o", color=colour, ms=4, alpha=0.6)
    if len(values) > 1:
      summary = stats.mean_interval(values)
      axes.errorbar(
        place + 0.25,
        summary.estimate,
        yerr=np.abs(np.subtract(summary.ci95, summary.estimate))[:, None],
        fmt="_",
        color=colour,
        capsize=4,
      )
  for (name, value), style in zip(
    baselines.items(), _STYLES * len(baselines), strict=False
  ):
    axes.axhline(value, color="#999999", linestyle=style, label=name)
  axes.set_xticks(range(len(finals)), list(finals), rotation=20, ha="right")
  axes.set_xlim(-0.5, len(finals) - 0.3)
  axes.set_title("each seed; bar: mean and 95% t interval", fontsize=9)
  if baselines:
    # Beside the axes, where it hides no seed.
    axes.legend(
      frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1)
    )
