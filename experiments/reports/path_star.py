"""What was found of path-star graphs: tables, measurements, figures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.reports.path_star_claims import (
  MARGIN,
  PREDICTED,
  Every,
  learned,
  numbers,
  said_of,
)
from jaxlook import reporting, stats
from jaxlook.planning.stars.answers import AnswerResults
from jaxlook.planning.stars.settings import IN_WEIGHTS, GraphResults
from jaxlook.reporting import figures
from jaxlook.stats.myopia_gap import CAUSAL

_UNTESTED = "What cannot be tested: nothing was learned that could be lost"


def tables(every: Every) -> dict[str, reporting.Rows]:
  """Accuracy, loss by step, probes and swaps.

  Args:
    every: measured models.

  Returns:
    Tables by title; every number with its 95% t interval over n seeds.
  """
  made = {
    "Accuracy": _accuracy(every),
    "Loss by step of the answer, nats": _losses(every),
    "Linear probes where the answer starts": _probes(every),
    "Whole answers with a donor's stream put in (moved / left)": _moved(every),
  }
  untested = _untested(every)
  return made | ({_UNTESTED: untested} if len(untested) > 1 else {})


def _untested(every: Every) -> reporting.Rows:
  """Predictions that a failure of ordinary training leaves without a test."""
  rows = [["claim", "why", f"{CAUSAL}", "1/d", "n"]]
  for setting, by in every.items():
    for cut in by:
      for name, end in PREDICTED.items() if setting in IN_WEIGHTS else ():
        plain = by[CAUSAL]
        if cut == CAUSAL or learned(plain, name):
          continue
        why = f"{CAUSAL}, {said_of(name)}: not {MARGIN} above chance"
        shown = [_shown(numbers(plain)[name]), reporting.number(plain.chance)]
        rows.append(
          [f"B4/{setting}/{cut}/no_loss{end}", why, *shown, _n(plain)]
        )
  return rows


def _rows(every: Every) -> Iterator[tuple[str, str, GraphResults]]:
  for setting, by in every.items():
    for variant, found in by.items():
      yield setting, variant, found


def _accuracy(every: Every) -> reporting.Rows:
  names = (
    *("first_step", "later_steps", "path_forced", "path_written"),
    *("path_beamed", "beam_gain"),
  )
  head = ["first step", "later steps", "path, forced", "path, written"]
  head += ["path, best beam", "beam gain, nats", "first step, trained leaves"]
  rows = [["setting", "variant", *head, "1/d", "n"]]
  for setting, variant, found in _rows(every):
    mine = numbers(found)
    seen = "-"
    if found.seen is not None:
      seen = _shown(found.seen[:, found.first])
    each = [_shown(mine[name]) for name in names]
    rows.append(
      [setting, variant, *each, seen, reporting.number(found.chance), _n(found)]
    )
  return rows


def _losses(every: Every) -> reporting.Rows:
  longest = max(len(found.clever_hans) for _, _, found in _rows(every))
  steps = [f"step {step}" for step in range(1, longest + 1)]
  rows = [["setting", "variant", *steps, "n"]]
  for setting, variant, found in _rows(every):
    each = [_shown(losses) for losses in found.answers.losses.T]
    pad = ["-"] * (longest - len(each))
    if variant == CAUSAL:
      level = [reporting.number(nats) for nats in found.clever_hans]
      rows.append([setting, "who follows edges alone", *level, *pad, "-"])
    rows.append([setting, variant, *each, *pad, _n(found)])
  return rows


def _probes(every: Every) -> reporting.Rows:
  head = ["probe", "shuffled", "untrained"]
  rows = [["setting", "variant", "target", "before block", *head, "n"]]
  for setting, variant, found in _rows(every):
    for target in ("first", "arm"):
      mine, shuffled = _probed(found.answers, target)
      fresh, _ = _probed(found.untrained, target)
      if np.isnan(mine).all():
        continue
      for layer in range(mine.shape[1]):
        each = [_shown(x[:, layer]) for x in (mine, shuffled, fresh)]
        layer = "end" if layer == mine.shape[1] - 1 else str(layer)
        rows.append([setting, variant, target, layer, *each, _n(found)])
  return rows


def _probed(
  answers: AnswerResults, target: str
) -> tuple[np.ndarray, np.ndarray]:
  if target == "first":
    return answers.first_probe, answers.first_shuffled
  return answers.arm_probe, answers.arm_shuffled


def _moved(every: Every) -> reporting.Rows:
  layers = next(_rows(every))[2].answers.moved.shape[2]
  heads = [f"before block {layer}" for layer in range(layers - 1)]
  rows = [["setting", "variant", "donor: place", *heads, "at the end", "n"]]
  for setting, variant, found in _rows(every):
    mine = found.answers
    for index, place in enumerate(found.places):
      each = [
        f"{_shown(mine.moved[:, index, layer, -1])} /"
        f" {_shown(mine.left[:, index, layer, -1])}"
        for layer in range(layers)
      ]
      rows.append([setting, variant, place, *each, _n(found)])
  return rows


def _n(found: GraphResults) -> str:
  return str(np.isfinite(found.answers.whole).sum())


def _shown(values: np.ndarray) -> str:
  alive = values[np.isfinite(values)]
  if len(alive) < 2:
    return "-"
  mean = stats.mean_interval(alive)
  return f"{reporting.number(mean.estimate)} {reporting.interval(mean.ci95)}"


def measurements(every: Every, seeds: Sequence[int]) -> pa.Table:
  """Every number, one a row.

  Args:
    every: measured models.
    seeds: of the axis E.

  Returns:
    Columns setting, variant, leaves ("held out", "trained", "untrained model"),
    seed, measure, place, layer, step and value; null where there is no such
    axis. The last step of `forced`, `moved` and `left` stands for the whole
    answer.
  """
  names = "setting variant leaves seed measure place layer step value".split()
  rows = list(_measured(every, seeds))
  return pa.table(
    dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
  )


def _measured(every: Every, seeds: Sequence[int]) -> Iterator[tuple[Any, ...]]:
  for setting, variant, found in _rows(every):
    for leaves, answers in (
      ("held out", found.answers._asdict() | {"forced": found.forced}),
      ("trained", {} if found.seen is None else {"correct": found.seen}),
      ("untrained model", found.untrained._asdict()),
    ):
      for measure, array in answers.items():
        for (seed, *at), value in np.ndenumerate(array):
          place = layer = step = None
          if len(at) == 3:
            place, layer, step = found.places[at[0]], at[1], at[2] + 1
          elif at and ("probe" in measure or "shuffled" in measure):
            layer = at[0]
          elif at:
            step = at[0] + 1
          which = (setting, variant, leaves, seeds[seed], measure)
          if np.isfinite(value):
            yield *which, place, layer, step, float(value)


def draw(folder: Path, every: Every, setup: str) -> dict[str, str]:
  """Draws accuracies, losses and swaps.

  Args:
    folder: where the PNGs go.
    every: measured models.
    setup: task, model, training and seeds, in a line or two.

  Returns:
    Captions by file name.

  Raises:
    OSError: a file cannot be written.
  """
  figures.panels_figure(
    folder / "accuracy.png",
    [[_by_setting(every, name) for name in ("first_step", "path_written")]],
    title="Path-star graphs: the first step needs the whole path",
    setup=setup,
  )
  figures.panels_figure(
    folder / "losses.png",
    [[_by_step(setting, by) for setting, by in every.items()]],
    title="Path-star graphs: loss by step of the answer",
    setup=setup,
  )
  return {
    "accuracy.png": "Accuracy of the step that leaves the start, given the true"
    " steps before it, and of whole paths in free writing, on graphs or leaves"
    " that no training saw; mean and 95% t interval over seeds.",
    "losses.png": "Loss by step given the true steps before; mean and 95% t"
    " band over seeds. The grey line is the mean of who follows edges alone.",
  }


def _by_setting(every: Every, name: str) -> figures.Curves:
  variants = dict.fromkeys(variant for _, variant, _ in _rows(every))
  seeds = len(next(_rows(every))[2].answers.whole)
  nothing = np.full(seeds, np.nan)
  levels = {f"1/{round(1 / x)}": x for x in _chances(every)}
  return figures.Curves(
    name.replace("_", " "),
    [setting.replace(" ", "\n") for setting in every],
    "setting",
    "accuracy",
    {
      variant: np.stack(
        [
          numbers(by[variant])[name] if variant in by else nothing
          for by in every.values()
        ]
      )
      for variant in variants
    },
    levels=levels,
    scale="steps",
  )


def _chances(every: Every) -> list[float]:
  return list(dict.fromkeys(found.chance for _, _, found in _rows(every)))


def _by_step(setting: str, by: Mapping[str, GraphResults]) -> figures.Curves:
  levels = next(iter(by.values())).clever_hans
  return figures.Curves(
    setting,
    np.arange(1, len(levels) + 1),
    "step of the answer",
    "nats",
    {variant: found.answers.losses.T for variant, found in by.items()},
    levels={"who follows edges alone, mean": float(levels.mean())},
    scale="steps",
  )
