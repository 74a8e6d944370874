"""What was found of the gap by kind of token: claims, tables, the figure."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.stats

from jaxlook import figures, report, stats
from jaxlook.ablation import source_of
from jaxlook.claims import ABOVE_0, Statement, judged
from jaxlook.lookahead import token_classes as classes
from jaxlook.lookahead import token_gap
from jaxlook.lookahead.token_classes import Kind

WU = "Wu et al. 2024, arXiv 2404.00859, published code, pos_v_loss.ipynb"
OURS = "jaxlook's own; not measured before, as far as we found"
UNIT = "nats/token"
_PAIRED = "paired by seed"
_BEFORE, _AFTER = 48, 20  # Characters around a token that are shown.
_FAR = 8  # From how far back on an earlier occurrence counts as far.

Show = Callable[[Sequence[int]], list[str]]


@dataclasses.dataclass(frozen=True, eq=False)
class Gap:
  """A variant's losses on held-out text, beside ordinary training's.

  Attributes:
    variant: its flag form.
    seeds: those that are finite in both.
    plain: losses of ordinary training, nats, [E, W, T].
    loss: the variant's, of the same seeds and tokens.
  """

  variant: str
  seeds: tuple[int, ...]
  plain: np.ndarray
  loss: np.ndarray

  @property
  def gap(self) -> np.ndarray:
    """The variant's loss minus ordinary training's, float64 [E, W, T]."""
    return self.loss.astype(np.float64) - self.plain


def claims(
  gaps: Sequence[Gap], kinds: Mapping[str, Kind]
) -> list[stats.Claim]:
  """Where the gap lies, of every variant.

  Args:
    gaps: one a variant.
    kinds: of the tokens.

  Returns:
    Those for which at least two seeds are there.
  """
  return judged(
    statement
    for each in gaps
    for statement in (*_by_position(each), *_by_kind(each, kinds))
  )


def _by_position(each: Gap) -> list[Statement]:
  """The published curve: at most 0 at the start, then rising."""
  curve = token_gap.by_position(each.gap)
  late = curve[:, -max(curve.shape[1] // 4, 1) :].mean(axis=1)
  places = np.arange(curve.shape[1])
  # A position more or less of few windows is noise; a rank correlation is not
  # moved by how steep the rise is.
  rise = np.array(
    [
      scipy.stats.spearmanr(places, row).statistic if np.ptp(row) else 0.0
      for row in curve
    ]
  )
  source = source_of(each.variant.partition("/")[2], WU)

  def stated(name: str, text: str, unit: str, values, bounds) -> Statement:
    text = f"{each.variant} minus causal: {text}"
    name = f"{each.variant}/{name}"
    return Statement(name, text, source, unit, values, bounds, _PAIRED)

  return [
    stated(
      *("W10/start", "the gap at position 0 is 0 or below", UNIT),
      *(curve[:, 0], {"high": 0.0}),
    ),
    stated(
      "W10/late",
      "the gap is larger in the last quarter of the positions than at position"
      " 0; the estimate is the difference",
      *(UNIT, late - curve[:, 0], ABOVE_0),
    ),
    stated(
      "W10/rise",
      "the gap rises with the position: their rank correlation is above 0",
      *("correlation", rise, ABOVE_0),
    ),
  ]


def _by_kind(each: Gap, kinds: Mapping[str, Kind]) -> list[Statement]:
  """Which of two classes has the larger gap, at equal positions."""
  frequency, distance = kinds[classes.FREQUENCY], kinds[classes.DISTANCE]
  again = kinds[classes.REPEATED].mask(classes.AGAIN)
  far = [
    label
    for label in distance.classes
    if label != classes.NEW and int(label.partition("..")[0]) >= _FAR
  ]
  is_far = np.any([distance.mask(label) for label in far], axis=0) & again
  rare, common = frequency.classes[0], frequency.classes[-1]
  word, line = kinds[classes.WORD], kinds[classes.LINE]
  pairs = {
    "repeated": (
      "repeated tokens than of new ones",
      *(again, kinds[classes.REPEATED].mask(classes.NEW)),
    ),
    "far": (
      f"tokens last seen {_FAR} or more positions back than of nearer ones",
      *(is_far, again & ~is_far),
    ),
    "continues": (
      "tokens that continue a word than of those that begin one",
      *(word.mask(classes.CONTINUES), word.mask(classes.BEGINS)),
    ),
    "rare": (
      "tokens of the rarest bin than of the commonest",
      *(frequency.mask(rare), frequency.mask(common)),
    ),
    "line": (
      "tokens after a line break than within a line",
      *(line.mask(classes.AFTER_BREAK), line.mask(classes.WITHIN_LINE)),
    ),
  }
  return [
    Statement(
      f"{each.variant}/{name}",
      f"the gap of {each.variant} is larger of {text}, at equal positions; the"
      " estimate is the difference",
      OURS,
      UNIT,
      token_gap.contrast(each.gap, these, those),
      ABOVE_0,
      _PAIRED,
    )
    for name, (text, these, those) in pairs.items()
  ]


def class_table(each: Gap, kinds: Mapping[str, Kind]) -> report.Rows:
  """One row a class: its share of tokens, losses, gap and part of the gap.

  Args:
    each: a variant's losses.
    kinds: of the tokens.

  Returns:
    A header and the rows. The parts of a kind's classes add up to the whole
    gap.
  """
  rows = [["kind", "class", "share of tokens", "tokens", "causal loss"]]
  rows[0] += ["95% t", "gap", "95% t", "part of the gap", "95% t", "n"]
  for kind in kinds.values():
    share = token_gap.shares(kind)
    plain = token_gap.class_means(each.plain, kind)
    gap = token_gap.class_means(each.gap, kind)
    for place, label in enumerate(kind.classes):
      rows.append(
        [
          *(kind.name, label, report.number(share[place])),
          str(round(share[place] * kind.of.size)),
          *_estimate(plain[:, place]),
          *_estimate(gap[:, place]),
          *_estimate(gap[:, place] * share[place]),
          str(len(gap)),
        ]
      )
  whole = each.gap.mean(axis=(1, 2))
  plain = each.plain.mean(axis=(1, 2), dtype=np.float64)
  size = str(each.gap[0].size)
  estimates = [*_estimate(plain), *_estimate(whole), *_estimate(whole)]
  rows.append(["all", "", "1", size, *estimates, str(len(whole))])
  return rows


def _estimate(values: np.ndarray) -> list[str]:
  """Mean and interval over seeds; no interval of one."""
  mean = report.number(float(values.mean()))
  if len(values) < 2:
    return [mean, "-"]
  return [mean, report.interval(stats.mean_interval(values).ci95)]


def costly_table(
  each: Gap, windows: np.ndarray, show: Show, count: int
) -> report.Rows:
  """The tokens with the largest gap, in their context.

  Args:
    each: a variant's losses.
    windows: the tokens, integer [W, T + 1].
    show: the text of tokens, each by itself.
    count: how many.

  Returns:
    A header and the rows; the gap is of the seeds that did not choose.
  """
  found = token_gap.costliest(each.gap, count)
  half = len(each.seeds) // 2
  rows = [["before", "token", "after", "gap that chose it", "causal loss"]]
  rows[0] += ["gap of the other seeds", "95% t", "n"]
  for place, (window, position) in enumerate(
    zip(found.window, found.position, strict=True)
  ):
    shown = show(windows[window].tolist())
    plain = each.plain[half:, window, position]
    rows.append(
      [
        report.code("".join(shown[: position + 1]), _BEFORE),
        report.code(shown[position + 1]),
        report.code("".join(shown[position + 2 :])[:_AFTER]),
        report.number(float(found.chosen[place])),
        report.number(float(plain.mean())),
        *_estimate(found.gap[:, place]),
        str(len(found.gap)),
      ]
    )
  return rows


def costly_title(each: Gap) -> str:
  """What the table of costly tokens is called: who chose, who measured."""
  half = len(each.seeds) // 2
  return (
    f"Most costly tokens, {each.variant}, chosen by seeds"
    f" {list(each.seeds[:half])}, measured on {list(each.seeds[half:])}"
  )


def figure(
  path: Path,
  gaps: Sequence[Gap],
  kinds: Mapping[str, Kind],
  *,
  title: str,
  setup: str,
) -> None:
  """Draws the gap by position and by the classes of every kind.

  Args:
    path: the PNG to write.
    gaps: one a variant.
    kinds: of the tokens.
    title: what is shown.
    setup: task, model, training and seeds, in a line or two.

  Raises:
    OSError: the file cannot be written.
  """
  places = np.arange(gaps[0].gap.shape[-1])
  panels = [
    figures.Curves(
      classes.POSITION.capitalize(),
      places,
      "position",
      f"gap, {UNIT}",
      {each.variant: token_gap.by_position(each.gap).T for each in gaps},
      {"no gap": 0.0},
    )
  ]
  for name, kind in kinds.items():
    if name == classes.POSITION:
      continue
    short = [label.removesuffix(" a word") for label in kind.classes]
    panels.append(
      figures.Curves(
        name.capitalize(),
        # Counts are long, and ordered: the table has them.
        [label.partition(":")[0] for label in short],
        "bin, the rarest first" if name == classes.FREQUENCY else "",
        f"gap, {UNIT}",
        {
          each.variant: token_gap.class_means(each.gap, kind).T for each in gaps
        },
        {"no gap": 0.0},
        scale="steps",
      )
    )
  figures.panels_figure(
    path, [panels[:3], panels[3:]], title=title, setup=setup
  )


def metrics(each: Gap, kinds: Mapping[str, Kind]) -> dict[int, dict[str, Any]]:
  """By seed, the loss, the gap and the gap of every class."""
  found: dict[int, dict[str, Any]] = {
    seed: {
      "loss": float(each.loss[place].mean(dtype=np.float64)),
      "gap": float(each.gap[place].mean()),
    }
    for place, seed in enumerate(each.seeds)
  }
  for kind in kinds.values():
    means = token_gap.class_means(each.gap, kind)
    for seed, row in zip(each.seeds, means, strict=True):
      found[seed] |= {
        f"gap, {kind.name}: {label}": float(mean)
        for label, mean in zip(kind.classes, row, strict=True)
      }
  return found


def measurements(gaps: Sequence[Gap], kinds: Mapping[str, Kind]) -> pa.Table:
  """Every class and every position, one a row for each variant and seed."""
  rows = []
  for each in gaps:
    exact = np.broadcast_to(np.arange(each.gap.shape[-1]), each.gap.shape[1:])
    labels = tuple(map(str, range(each.gap.shape[-1])))
    every = [*kinds.values(), Kind("every position", labels, exact)]
    for kind in every:
      size = np.bincount(kind.of.ravel(), minlength=len(kind.classes))
      plain = token_gap.class_means(each.plain, kind)
      gap = token_gap.class_means(each.gap, kind)
      rows += [
        {
          "variant": each.variant,
          "seed": seed,
          "kind": kind.name,
          "class": label,
          "tokens": int(size[column]),
          "causal_loss": float(plain[row, column]),
          "gap": float(gap[row, column]),
        }
        for row, seed in enumerate(each.seeds)
        for column, label in enumerate(kind.classes)
      ]
  return pa.Table.from_pylist(rows)
