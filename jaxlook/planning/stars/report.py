"""What was found of path-star graphs: claims, tables, measurements, figures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jaxlook import figures, report, stats
from jaxlook.ablation import CAUSAL, KV, RESIDUAL
from jaxlook.claims import ABOVE_0, BELOW_0, Statement
from jaxlook.planning.stars import plans as stars
from jaxlook.planning.stars.answers import Answers
from jaxlook.planning.stars.settings import (
  FORWARD,
  IN_WEIGHTS,
  MASKED,
  REVERSED,
  TEACHERLESS,
  Found,
)

_STAR = "Bachmann and Nagarajan 2024, arXiv 2403.06963"
_MASKING = "Kitouni et al. 2024, arXiv 2406.05183, fig. 5"
_WEIGHTS = "Noroozizadeh et al. 2025, arXiv 2510.26745, obs. 1"
_OURS = "jaxlook's own; not measured before, as far as we found"
_UNIT = "share"


Every = Mapping[str, Mapping[str, Found]]
"""By setting and variant."""


def numbers(found: Found) -> dict[str, np.ndarray]:
  """One number a seed for each question, [E] by name."""
  mine = found.answers
  return {
    "first_step": mine.correct[:, found.first],
    "later_steps": _others(mine.correct, found.first),
    "path_forced": mine.paths,
    "first_step_written": mine.written[:, found.first],
    "path_written": mine.whole,
    "beam_gain": mine.beam_gain,
    "path_beamed": mine.beamed,
    "first_step_loss": mine.losses[:, found.first],
    "later_steps_loss": _others(mine.losses, found.first),
  }


def _others(values: np.ndarray, first: int) -> np.ndarray:
  """The mean of the other columns; NaN if there are none."""
  rest = np.delete(values, first, axis=1)
  return rest.mean(axis=1) if rest.shape[1] else np.full(len(rest), np.nan)


def statements(every: Every) -> Iterator[Statement]:
  """What is claimed of the settings that were run.

  Args:
    every: measured models.

  Yields:
    Published claims about ordinary training, then what the cuts change.
  """
  last = {
    setting: {variant: numbers(found) for variant, found in by.items()}
    for setting, by in every.items()
  }
  for setting, by in every.items():
    yield from _published(setting, last[setting][CAUSAL], by[CAUSAL])
    for cut in (RESIDUAL, KV):
      if cut in by:
        yield from _of_cut(
          setting, cut, last[setting][cut], last[setting][CAUSAL]
        )
    yield from _swaps(setting, by[CAUSAL])


def _published(
  setting: str, mine: Mapping[str, np.ndarray], found: Found
) -> Iterator[Statement]:
  """B1, B2 and B4: ordinary training."""
  chance = found.chance
  first, whole = mine["first_step"], mine["path_written"]

  def said(id, words, source, values, **bounds):
    return Statement(id, f"{setting}: {words}", source, _UNIT, values, bounds)

  at_chance = f"the first step is right in 1/d = {chance:.3g} within 0.02"
  if setting == FORWARD:
    near = {"low": chance - 0.02, "high": chance + 0.02}
    yield said("B1/first", at_chance, _STAR, first, **near)
    later = "later steps, given the true path, are right in at least 0.99"
    yield said("B1/later", later, _STAR, mine["later_steps"], low=0.99)
  elif setting == REVERSED:
    words = "a written path is right in at least 0.95"
    yield said("B2/easy", f"{words} (recalled)", _STAR, whole, low=0.95)
    words = f"a written path is right in 1/d = {chance:.3g} within 0.05"
    near = {"low": chance - 0.05, "high": chance + 0.05}
    yield said("B2/hard", f"{words} (published: .49)", _MASKING, whole, **near)
  elif setting == TEACHERLESS:
    words = "the first step is right in more than 1/d + 0.02"
    yield said("B2/teacherless", words, _STAR, first, low=chance + 0.02)
  elif setting == MASKED:
    words = "a written path is right in at least 0.95 (published: 1.00)"
    yield said("B2/masked", words, _MASKING, whole, low=0.95)
  else:
    words = "the path to a held-out leaf is right in at least 0.95"
    yield said(f"B4/{setting}", words, _WEIGHTS, whole, low=0.95)
    words = "the first step to a held-out leaf is right in at least 0.05 above"
    words += f" 1/d = {chance:.3g}"
    id = f"B4/{setting}/above_chance"
    yield said(id, words, _WEIGHTS, first, low=chance + 0.05)


def _of_cut(
  setting: str,
  cut: str,
  mine: Mapping[str, np.ndarray],
  plain: Mapping[str, np.ndarray],
) -> Iterator[Statement]:
  """What is lost without the future's gradient."""
  name = "first_step" if setting == FORWARD else "path_written"
  if setting in IN_WEIGHTS:
    name = "first_step"
  what = name.replace("_", " ")
  less = mine[name] - plain[name]
  head = f"{setting}: {cut} minus {CAUSAL}, {what}"
  pairing = "paired by seed"
  if setting in IN_WEIGHTS:
    source = f"{_WEIGHTS}: a prediction; {_OURS}"
    words = f"{head}: is no more than 0.05 below 0"
    id, bounds = f"B4/{setting}/{cut}/no_loss", {"low": -0.05}
    yield Statement(id, words, source, _UNIT, less, bounds, pairing)
  else:
    words = f"{head}: is below 0"
    id = f"{setting}/{cut}/less"
    yield Statement(id, words, _OURS, _UNIT, less, BELOW_0, pairing)


def _swaps(setting: str, found: Found) -> Iterator[Statement]:
  """Whether the goal's stream decides the path of ordinary training."""
  moved = {
    place: found.answers.moved[:, found.places.index(place), 0, -1]
    for place in (stars.GOAL, stars.BEFORE)
  }
  more = moved[stars.GOAL] - moved[stars.BEFORE]
  words = f"{setting}: with another goal's stream put in at the goal, before"
  words += " the first block, its path is written more often than before the"
  words += " goal, where nothing can change; the estimate is the difference"
  id = f"{setting}/swap/goal"
  yield Statement(id, words, _OURS, _UNIT, more, ABOVE_0, "paired by seed")


def tables(every: Every) -> dict[str, report.Rows]:
  """Accuracy, loss by step, probes and swaps.

  Args:
    every: measured models.

  Returns:
    Tables by title; every number with its 95% t interval over n seeds.
  """
  return {
    "Accuracy": _accuracy(every),
    "Loss by step of the answer, nats": _losses(every),
    "Linear probes where the answer starts": _probes(every),
    "Whole answers with a donor's stream put in (moved / left)": _moved(every),
  }


def _rows(every: Every) -> Iterator[tuple[str, str, Found]]:
  for setting, by in every.items():
    for variant, found in by.items():
      yield setting, variant, found


def _accuracy(every: Every) -> report.Rows:
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
      [setting, variant, *each, seen, report.number(found.chance), _n(found)]
    )
  return rows


def _losses(every: Every) -> report.Rows:
  longest = max(len(found.clever_hans) for _, _, found in _rows(every))
  steps = [f"step {step}" for step in range(1, longest + 1)]
  rows = [["setting", "variant", *steps, "n"]]
  for setting, variant, found in _rows(every):
    each = [_shown(losses) for losses in found.answers.losses.T]
    pad = ["-"] * (longest - len(each))
    if variant == CAUSAL:
      level = [report.number(nats) for nats in found.clever_hans]
      rows.append([setting, "who follows edges alone", *level, *pad, "-"])
    rows.append([setting, variant, *each, *pad, _n(found)])
  return rows


def _probes(every: Every) -> report.Rows:
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


def _probed(answers: Answers, target: str) -> tuple[np.ndarray, np.ndarray]:
  if target == "first":
    return answers.first_probe, answers.first_shuffled
  return answers.arm_probe, answers.arm_shuffled


def _moved(every: Every) -> report.Rows:
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


def _n(found: Found) -> str:
  return str(np.isfinite(found.answers.whole).sum())


def _shown(values: np.ndarray) -> str:
  alive = values[np.isfinite(values)]
  if len(alive) < 2:
    return "-"
  mean = stats.mean_interval(alive)
  return f"{report.number(mean.estimate)} {report.interval(mean.ci95)}"


def measurements(every: Every, seeds: Sequence[int]) -> pa.Table:
  """Every number, one a row.

  Args:
    every: measured models.
    seeds: of the axis E.

  Returns:
    Columns setting, variant, leaves ("held out", "trained", "untrained model"),
    seed, measure, place, layer, step and value; null where there is no such
    axis. The last step of `moved` and `left` stands for the whole answer.
  """
  names = "setting variant leaves seed measure place layer step value".split()
  rows = list(_measured(every, seeds))
  return pa.table(
    dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
  )


def _measured(every: Every, seeds: Sequence[int]) -> Iterator[tuple[Any, ...]]:
  for setting, variant, found in _rows(every):
    for leaves, answers in (
      ("held out", found.answers._asdict()),
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
    list(every),
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


def _by_step(setting: str, by: Mapping[str, Found]) -> figures.Curves:
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
