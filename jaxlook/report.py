"""Tables and figures of an experiment, as Markdown and PNG.

Every number carries its n, its 95% interval and what it was paired with; every
figure its setup. Nothing is computed here but intervals for display.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from jaxlook import stats
from jaxlook.files import write_bytes

Rows = list[list[str]]

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


def number(value: float) -> str:
  """A number with four significant digits."""
  return f"{value:.4g}"


def interval(ends: tuple[float, float]) -> str:
  """An interval, [low, high]."""
  return f"[{number(ends[0])}, {number(ends[1])}]"


def variant_table(
  values: Mapping[str, Mapping[int, float]],
  diverged: Mapping[str, Sequence[int]],
  baselines: Mapping[str, float],
) -> Rows:
  """One row a variant: mean over seeds with interval, n, and every seed.

  Args:
    values: the metric by variant and seed.
    diverged: the seeds that diverged, by variant.
    baselines: values that were not trained and have no seeds.

  Returns:
    A header and the rows.
  """
  rows = [
    [
      "variant",
      "mean",
      "95% t interval",
      "n",
      "pairing",
      "each seed",
      "diverged",
    ]
  ]
  for variant, by_seed in values.items():
    each = [number(by_seed[seed]) for seed in sorted(by_seed)]
    mean, ends = "-", "-"
    if each:
      mean = number(float(np.mean(list(by_seed.values()))))
    if len(each) > 1:
      ends = interval(stats.mean_interval(list(by_seed.values())).ci95)
    lost = ", ".join(map(str, diverged.get(variant, ()))) or "none"
    rows.append(
      [variant, mean, ends, str(len(each)), "none", " ".join(each), lost]
    )
  for name, value in baselines.items():
    rows.append(
      [name, number(value), "-", "-", "-", "no training, no seeds", "-"]
    )
  return rows


def comparison_table(
  comparisons: Mapping[str, stats.Comparison],
) -> Rows:
  """One row a paired difference, with Holm's correction over the table."""
  rows = [
    [
      "difference",
      "estimate",
      "95% t interval",
      "95% bootstrap",
      "n",
      "pairing",
      "effect size",
      "p (Holm)",
    ]
  ]
  for row in stats.comparison_table(comparisons):
    rows.append(
      [
        row["name"],
        number(row["estimate"]),
        interval(row["ci95"]),
        interval(row["bootstrap95"]),
        str(row["n"]),
        row["pairing"],
        number(row["effect_size"]),
        f"{row['p_holm']:.2g}",
      ]
    )
  return rows


def claim_table(claims: Sequence[stats.Claim]) -> Rows:
  """One row a claim, with its evidence and verdict."""
  rows = [
    ["claim", "statement", "estimate", "95% interval", "n", "verdict", "source"]
  ]
  for claim in claims:
    rows.append(
      [
        claim.id,
        claim.statement,
        f"{number(claim.estimate)} {claim.unit}",
        interval(claim.ci95),
        str(claim.n),
        claim.verdict,
        claim.source,
      ]
    )
  return rows


def markdown(rows: Rows) -> str:
  """A Markdown table of a header and rows."""
  head, *body = rows
  lines = [head, ["---"] * len(head), *body]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


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


def write_report(
  path: Path, title: str, sections: Sequence[tuple[str, str]]
) -> None:
  """Writes a Markdown report of titled sections, whole or not at all."""
  parts = [f"# {title}\n"]
  parts += [f"## {head}\n\n{body}" if head else body for head, body in sections]
  write_bytes(path, "\n".join(parts).encode())


def environment_line(environment: Mapping[str, Any]) -> str:
  """Device, versions and commit of a run, in one line."""
  return (
    f"{environment['device']}, jax {environment['jax']}, commit"
    f" {environment['commit'] or 'unknown'}"
  )
