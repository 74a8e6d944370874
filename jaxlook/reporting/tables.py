"""Tables and the report of an experiment, as Markdown.

Every number is shown with its n, its 95% interval and what it was paired with.
Only intervals for display are computed here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxlook import stats
from jaxlook.runs.atomic_files import write_bytes

Rows = list[list[str]]
_BOOTSTRAP_FROM = 6
_VISIBLE = {"\n": "↵", "\t": "⇥", "\r": "␍"}


def number(value: float) -> str:
  """A number with four significant digits; "-" if it is not defined."""
  return "-" if np.isnan(value) else f"{value:.4g}"


def interval(ends: tuple[float, float]) -> str:
  """An interval, [low, high]; "-" if it is not defined."""
  if np.isnan(ends).any():
    return "-"
  return f"[{number(ends[0])}, {number(ends[1])}]"


def mean(values: np.ndarray) -> str:
  """The mean over seeds with its 95% t interval; "-" below two seeds.

  Args:
    values: one per seed, [E]; values that are not finite are left out.
  """
  alive = values[np.isfinite(values)]
  if len(alive) < 2:
    return "-"
  found = stats.mean_interval(alive)
  return f"{number(found.estimate)} {interval(found.ci95)}"


def count(values: np.ndarray) -> str:
  """How many values are finite."""
  return str(int(np.isfinite(values).sum()))


def variant_table(
  values: Mapping[str, Mapping[int, float]],
  diverged: Mapping[str, Sequence[int]],
  baselines: Mapping[str, float],
) -> Rows:
  """One row per variant: mean over seeds with interval, n, and every seed.

  Args:
    values: the metric by variant and seed.
    diverged: the seeds that diverged, by variant.
    baselines: values of untrained baselines, which have no seeds.

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


def measure_table(
  measures: Mapping[str, Mapping[str, Mapping[int, float]]],
) -> Rows:
  """One row per measure and variant: mean with interval, every seed.

  Args:
    measures: by measure, variant and seed.

  Returns:
    A header and the rows; fewer than two seeds have no interval.
  """
  rows = [["measure", "variant", "mean", "95% t interval", "n", "each seed"]]
  for measure, by_variant in measures.items():
    for variant, by_seed in by_variant.items():
      values = [by_seed[seed] for seed in sorted(by_seed)]
      ends = "-"
      if len(values) > 1:
        ends = interval(stats.mean_interval(values).ci95)
      mean = number(float(np.mean(values))) if values else "-"
      each = " ".join(number(value) for value in values)
      rows.append([measure, variant, mean, ends, str(len(values)), each])
  return rows


def comparison_table(
  comparisons: Mapping[str, stats.Comparison],
) -> Rows:
  """One row per paired difference, with its sign and Holm's correction.

  The correction is over the table. The bootstrap interval is shown from six
  seeds: of fewer it covers too rarely, 80% instead of 95% of four.
  """
  rows = [
    [
      "difference",
      "estimate",
      "95% t interval",
      "sign",
      "95% bootstrap",
      "n",
      "pairing",
      "effect size",
      "p (Holm)",
    ]
  ]
  for row in stats.comparison_table(comparisons):
    low, high = row["ci95"]
    sign = "above 0" if low > 0 else "below 0" if high < 0 else "not settled"
    boot = row["n"] >= _BOOTSTRAP_FROM
    rows.append(
      [
        row["name"],
        number(row["estimate"]),
        interval(row["ci95"]),
        sign,
        interval(row["bootstrap95"]) if boot else "-",
        str(row["n"]),
        row["pairing"],
        number(row["effect_size"]),
        f"{row['p_holm']:.2g}",
      ]
    )
  if all(row[4] == "-" for row in rows[1:]):
    return [[*row[:4], *row[5:]] for row in rows]
  return rows


def claim_table(claims: Sequence[stats.Claim]) -> Rows:
  """One row per claim, with its evidence and verdict."""
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


def code(text: str, tail: int | None = None) -> str:
  """Text as Markdown code for a table's cell, with visible spaces.

  Args:
    text: the text.
    tail: show only this many characters, the last ones; all by default.
  """
  text = "".join(
    c if c.isprintable() else _VISIBLE.get(c, f"<{ord(c):02X}>") for c in text
  )
  if tail is not None and len(text) > tail:
    text = "…" + text[-tail:]
  inner = text.strip(" ")
  start = len(text) - len(text.lstrip(" "))
  text = "␣" * start + inner + "␣" * (len(text) - start - len(inner))
  # A bar would end the cell, and a backtick the code.
  text = text.replace("|", "\\|")
  return f"`` {text} ``" if "`" in text else f"`{text}`"


def markdown(rows: Rows) -> str:
  """A Markdown table; the first row is the header."""
  head, *body = rows
  lines = [head, ["---"] * len(head), *body]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_report(
  path: Path, title: str, sections: Sequence[tuple[str, str]]
) -> None:
  """Writes a Markdown report, whole or not at all.

  Args:
    path: the file.
    title: of the report.
    sections: headings, empty for none, and their Markdown.
  """
  parts = [f"# {title}\n"]
  parts += [f"## {head}\n\n{body}" if head else body for head, body in sections]
  # Names of files may hold bytes that are not UTF-8, which Python escapes.
  write_bytes(path, "\n".join(parts).encode(errors="backslashreplace"))


def environment_line(environment: Mapping[str, Any]) -> str:
  """Device, JAX version and commit of a run, in one line."""
  return (
    f"{environment['device']}, jax {environment['jax']}, commit"
    f" {environment['commit'] or 'unknown'}"
  )
