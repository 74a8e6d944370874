"""The report of `token_gap`: notes, tables, the figure and measurements."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.common.results_writer import Drawing, Results, seed_cells
from experiments.common.study import Study
from experiments.common.trained_models import Subject, diverged_seeds
from experiments.reports.token_gap_claims import UNIT, VariantLosses, claims
from jaxlook import reporting, stats
from jaxlook.lookahead import token_classes as classes
from jaxlook.lookahead import token_gap
from jaxlook.lookahead.token_classes import TokenKind
from jaxlook.numerals import counted
from jaxlook.reporting import figures

_BEFORE, _AFTER = 48, 20  # Characters shown before and after a token.

NOTES = (
  "The gap of a token is the variant's loss on it minus causal's, of the same"
  " seed. Position 0 predicts the second token of a window from the first. The"
  " part of the gap is the gap times the share of tokens: the parts of a kind's"
  " classes add up to the whole gap.",
  "Each bin of counts has about the same share of the training text. Words"
  " consist of letters and digits; tokens that are parts of characters belong"
  " to no word. Repetitions and their distances are counted within the window"
  " only.",
  "Claims about two classes compare them at equal positions, because late"
  " positions have both more repeated tokens and another gap. The claims only"
  " describe: classes differ in more ways than their names say. Each verdict is"
  " for one claim alone, without adjustment for the number of claims.",
  "The most costly tokens, one per window, are chosen by the first half of the"
  " seeds and measured on the others, because the largest of many noisy numbers"
  " is biased upwards.",
)

_FIGURE = "gap.png"
_COSTLY = 20  # Tokens in the table of the most costly ones.

Show = Callable[[Sequence[int]], list[str]]


def results(
  study: Study,
  subjects: Sequence[Subject],
  gaps: Sequence[VariantLosses],
  kinds: Mapping[str, TokenKind],
  windows: np.ndarray,
  show: Show,
) -> Results:
  """Collects tables, figure, claims and measurements.

  Args:
    study: what was studied.
    subjects: the models, causal first.
    gaps: the losses of each variant, with two or more seeds.
    kinds: the kinds of tokens.
    windows: the tokens, integer [W, T + 1].
    show: gives the text of each token.

  Returns:
    The results to write.
  """
  labels = study.labels(
    f"{counted(len(subjects[0].seeds), 'seed')},"
    f" {windows[:, 1:].size} held-out tokens; mean and 95% t band"
  )
  return Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    notes=NOTES,
    figures={
      _FIGURE: Drawing(
        lambda path: figure(path, gaps, kinds, **labels),
        "The gap of held-out tokens by their kind.",
      )
    },
    tables=tables(gaps, kinds, windows, show, _COSTLY),
    claims=claims(gaps, kinds),
    cells=seed_cells(
      {each.variant: metrics(each, kinds) for each in gaps},
      diverged_seeds(subjects),
    ),
    measurements=measurements(gaps, kinds),
  )


def tables(
  gaps: Sequence[VariantLosses],
  kinds: Mapping[str, TokenKind],
  windows: np.ndarray,
  show: Show,
  costly: int,
) -> dict[str, reporting.Rows]:
  """All tables by title: classes, then the most costly tokens.

  Args:
    gaps: the losses of each variant, with two or more seeds.
    kinds: the kinds of tokens.
    windows: the tokens, integer [W, T + 1].
    show: gives the text of each token.
    costly: how many of the most costly tokens to show.
  """
  found = {
    f"The gap by kind of token, {each.variant}": class_table(each, kinds)
    for each in gaps
  }
  for each in gaps:
    half = len(each.seeds) // 2
    title = (
      f"Most costly tokens, {each.variant}, chosen by seeds"
      f" {list(each.seeds[:half])}, measured on {list(each.seeds[half:])}"
    )
    found[title] = costly_table(each, windows, show, costly)
  return found


def class_table(
  each: VariantLosses, kinds: Mapping[str, TokenKind]
) -> reporting.Rows:
  """One row per class: its share of tokens, losses, gap and part of the gap.

  Args:
    each: a variant's losses.
    kinds: the kinds of tokens.

  Returns:
    A header and the rows. The parts of a kind's classes add up to the whole
    gap.
  """
  rows = [["kind", "class", "share of tokens", "tokens", "causal loss"]]
  rows[0] += ["95% t", "gap", "95% t", "part of the gap", "95% t", "n"]
  for kind in kinds.values():
    share = token_gap.class_shares(kind)
    plain = token_gap.class_means(each.plain, kind)
    gap = token_gap.class_means(each.gap, kind)
    for place, label in enumerate(kind.classes):
      rows.append(
        [
          *(kind.name, label, reporting.number(share[place])),
          str(round(share[place] * kind.token_class.size)),
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
  """Mean and interval over seeds; no interval for one seed."""
  mean = reporting.number(float(values.mean()))
  if len(values) < 2:
    return [mean, "-"]
  return [mean, reporting.interval(stats.mean_interval(values).ci95)]


def costly_table(
  each: VariantLosses, windows: np.ndarray, show: Show, count: int
) -> reporting.Rows:
  """The tokens with the largest gap, in their context.

  Args:
    each: a variant's losses.
    windows: the tokens, integer [W, T + 1].
    show: gives the text of each token.
    count: how many tokens to show.

  Returns:
    A header and the rows. The last gap is that of the seeds that did not choose
    the tokens.
  """
  found = token_gap.costliest_tokens(each.gap, count)
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
        reporting.code("".join(shown[: position + 1]), _BEFORE),
        reporting.code(shown[position + 1]),
        reporting.code("".join(shown[position + 2 :])[:_AFTER]),
        reporting.number(float(found.chosen[place])),
        reporting.number(float(plain.mean())),
        *_estimate(found.gap[:, place]),
        str(len(found.gap)),
      ]
    )
  return rows


def figure(
  path: Path,
  gaps: Sequence[VariantLosses],
  kinds: Mapping[str, TokenKind],
  *,
  title: str,
  setup: str,
) -> None:
  """Draws the gap by position and by the classes of every kind.

  Args:
    path: the PNG to write.
    gaps: the losses of each variant.
    kinds: the kinds of tokens.
    title: of the figure.
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
        # The labels of counts are long; the table has them in full.
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


def metrics(
  each: VariantLosses, kinds: Mapping[str, TokenKind]
) -> dict[int, dict[str, Any]]:
  """The loss, the gap and the gap of every class, by seed."""
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


def measurements(
  gaps: Sequence[VariantLosses], kinds: Mapping[str, TokenKind]
) -> pa.Table:
  """One row per class or position, variant and seed."""
  rows = []
  for each in gaps:
    exact = np.broadcast_to(np.arange(each.gap.shape[-1]), each.gap.shape[1:])
    labels = tuple(map(str, range(each.gap.shape[-1])))
    every = [*kinds.values(), TokenKind("every position", labels, exact)]
    for kind in every:
      size = np.bincount(kind.token_class.ravel(), minlength=len(kind.classes))
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
