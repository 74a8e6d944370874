"""The tables of `path_star`: accuracy, losses, probes and swaps."""

from collections.abc import Iterator

import numpy as np

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
from jaxlook.planning.stars.settings import (
  IN_WEIGHTS,
  GraphResults,
)
from jaxlook.stats.myopia_gap import CAUSAL

_UNTESTED = "Claims that cannot be tested: causal training has not learned"


def tables(every: Every) -> dict[str, reporting.Rows]:
  """Accuracy, loss by step, probes and swaps.

  Args:
    every: all results.

  Returns:
    Tables by title; every number has its 95% t interval over n seeds.
  """
  made = {
    "Accuracy": _accuracy(every),
    "Loss by step of the answer, nats": _losses(every),
    "Linear probes where the answer starts": _probes(every),
    "Whole answers after a swap of the stream (moved / left)": _moved(every),
  }
  untested = _untested(every)
  return made | ({_UNTESTED: untested} if len(untested) > 1 else {})


def _untested(every: Every) -> reporting.Rows:
  """Claims that cannot be tested because ordinary training failed."""
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


def each_arm(every: Every) -> Iterator[tuple[str, str, GraphResults]]:
  """Setting, variant and results of every arm."""
  for setting, by in every.items():
    for variant, found in by.items():
      yield setting, variant, found


def _accuracy(every: Every) -> reporting.Rows:
  names = (
    "first_step",
    "later_steps",
    "path_forced",
    "path_written",
    "path_beamed",
    "beam_gain",
  )
  head = ["first step", "later steps", "path, forced", "path, written"]
  head += ["path, best beam", "beam gain, nats", "first step, trained leaves"]
  rows = [["setting", "variant", *head, "1/d", "n"]]
  for setting, variant, found in each_arm(every):
    values = numbers(found)
    seen = "-"
    if found.seen is not None:
      seen = _shown(found.seen[:, found.first])
    each = [_shown(values[name]) for name in names]
    rows.append(
      [setting, variant, *each, seen, reporting.number(found.chance), _n(found)]
    )
  return rows


def _losses(every: Every) -> reporting.Rows:
  longest = max(len(found.clever_hans) for _, _, found in each_arm(every))
  steps = [f"step {step}" for step in range(1, longest + 1)]
  rows = [["setting", "variant", *steps, "n"]]
  for setting, variant, found in each_arm(every):
    each = [_shown(losses) for losses in found.answers.losses.T]
    pad = ["-"] * (longest - len(each))
    if variant == CAUSAL:
      level = [reporting.number(nats) for nats in found.clever_hans]
      rows.append([setting, "Clever Hans", *level, *pad, "-"])
    rows.append([setting, variant, *each, *pad, _n(found)])
  return rows


def _probes(every: Every) -> reporting.Rows:
  head = ["probe", "shuffled", "untrained"]
  rows = [["setting", "variant", "target", "before block", *head, "n"]]
  for setting, variant, found in each_arm(every):
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
  layers = next(each_arm(every))[2].answers.moved.shape[2]
  heads = [f"before block {layer}" for layer in range(layers - 1)]
  rows = [["setting", "variant", "donor: place", *heads, "at the end", "n"]]
  for setting, variant, found in each_arm(every):
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
