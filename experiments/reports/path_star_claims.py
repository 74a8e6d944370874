"""What is claimed of path-star graphs: published, and of the cuts."""

from collections.abc import Iterator, Mapping

import numpy as np

from jaxlook import stats
from jaxlook.planning.stars import questions as stars
from jaxlook.planning.stars.settings import (
  FORWARD,
  IN_WEIGHTS,
  MASKED,
  REVERSED,
  TEACHERLESS,
  GraphResults,
)
from jaxlook.stats.claims import ABOVE_0, BELOW_0, PAIRED, Statement
from jaxlook.stats.myopia_gap import CAUSAL

_STAR = "Bachmann and Nagarajan 2024, arXiv 2403.06963"
_MASKING = "Kitouni et al. 2024, arXiv 2406.05183, fig. 5"
_WEIGHTS = "Noroozizadeh et al. 2025, arXiv 2510.26745, obs. 1"
_OURS = "jaxlook's own; not measured before, as far as we found"
_UNIT = "share"
MARGIN = 0.05
"""How far from chance or from ordinary training counts, in shares."""

GUESSED = (FORWARD, TEACHERLESS, MASKED)
"""Settings in whose first step who knows edges alone guesses the arm."""

PREDICTED = {"first_step": "", "path_written": "/path"}
"""What no cut is to lose in the weights, and how the claim's id ends."""


Every = Mapping[str, Mapping[str, GraphResults]]
"""By setting and variant."""


def numbers(found: GraphResults) -> dict[str, np.ndarray]:
  """One number a seed for each question, [E] by name."""
  mine = found.answers
  return {
    "first_step": found.forced[:, :-1][:, found.first],
    "later_steps": _others(found.forced[:, :-1], found.first),
    "path_forced": found.forced[:, -1],
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
  for setting, by in every.items():
    if setting in GUESSED:
      yield _edges(setting, by[CAUSAL])
      if not knows_edges(by[CAUSAL]):
        continue
    yield from _published(setting, by[CAUSAL])
    for cut in by:
      if cut != CAUSAL:
        yield from _of_cut(setting, cut, by)
    for variant in by:
      yield from _swaps(setting, variant, by[variant])


def _edges(setting: str, found: GraphResults) -> Statement:
  """Whether training came as far as the question of plans."""
  return Statement(
    f"{setting}/edges",
    f"{setting}: the first step is right in at least 1/d - {MARGIN}, as for who"
    " knows the edges and guesses the arm; where ordinary training has not come"
    " that far, nothing is claimed of plans",
    _OURS,
    _UNIT,
    numbers(found)["first_step"],
    {"low": found.chance - MARGIN},
  )


def knows_edges(found: GraphResults) -> bool:
  """Whether first steps are surely right as often as guesses among arms."""
  return _surely_above(found, "first_step", found.chance - MARGIN)


def _published(setting: str, found: GraphResults) -> Iterator[Statement]:
  """B1, B2 and B4: ordinary training."""
  chance, mine = found.chance, numbers(found)
  first, whole = mine["first_step"], mine["path_written"]
  # Greedy writing goes wrong exactly where forcing does, which is measured on
  # more graphs.
  forced = mine["path_forced"]

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
    yield said("B2/easy", f"{words} (recalled)", _STAR, forced, low=0.95)
    words = f"a written path is right in 1/d = {chance:.3g} within 0.05"
    near = {"low": chance - 0.05, "high": chance + 0.05}
    yield said("B2/hard", f"{words} (published: .49)", _MASKING, forced, **near)
  elif setting == TEACHERLESS:
    words = "the first step is right in more than 1/d + 0.02"
    yield said("B2/teacherless", words, _STAR, first, low=chance + 0.02)
  elif setting == MASKED:
    words = "a written path is right in at least 0.95 (published: 1.00)"
    yield said("B2/masked", words, _MASKING, forced, low=0.95)
  else:
    words = "the path to a held-out leaf is right in at least 0.95"
    yield said(f"B4/{setting}", words, _WEIGHTS, whole, low=0.95)
    words = "the first step to a held-out leaf is right in at least 0.05 above"
    words += f" 1/d = {chance:.3g}"
    id = f"B4/{setting}/above_chance"
    yield said(id, words, _WEIGHTS, first, low=chance + 0.05)


def _of_cut(
  setting: str, cut: str, by: Mapping[str, GraphResults]
) -> Iterator[Statement]:
  """What is lost without the future's gradient."""
  if setting in IN_WEIGHTS:
    yield from _not_lost(setting, cut, by)
    return
  name = "first_step" if setting == FORWARD else "path_forced"
  less = numbers(by[cut])[name] - numbers(by[CAUSAL])[name]
  yield Statement(
    f"{setting}/{cut}/less",
    f"{setting}: {cut} minus {CAUSAL}, {said_of(name)}: is below 0",
    _OURS,
    _UNIT,
    less,
    BELOW_0,
    PAIRED,
  )


def _not_lost(
  setting: str, cut: str, by: Mapping[str, GraphResults]
) -> Iterator[Statement]:
  """The prediction for cuts in the weights."""
  source = f"{_WEIGHTS}: a prediction; {_OURS}"
  least = by[cut].chance + MARGIN
  for name, end in PREDICTED.items():
    mine = numbers(by[cut])[name]
    yield Statement(
      f"B4/{setting}/{cut}/above_chance{end}",
      f"{setting}: {cut}, {said_of(name)} for held-out leaves: is at least"
      f" {MARGIN} above 1/d = {by[cut].chance:.3g}",
      source,
      _UNIT,
      mine,
      {"low": least},
    )
    if learned(by[CAUSAL], name):
      yield Statement(
        f"B4/{setting}/{cut}/no_loss{end}",
        f"{setting}: {cut} minus {CAUSAL}, {said_of(name)}: is no more than"
        f" {MARGIN} below 0",
        source,
        _UNIT,
        mine - numbers(by[CAUSAL])[name],
        {"low": -MARGIN},
        PAIRED,
      )


def learned(found: GraphResults, name: str) -> bool:
  """Whether there is something to lose: the interval lies above chance.

  Args:
    found: models of ordinary training.
    name: of `numbers`.

  Returns:
    Whether its 95% interval lies more than `MARGIN` above chance; False for
    less than two seeds.
  """
  return _surely_above(found, name, found.chance + MARGIN)


def _surely_above(found: GraphResults, name: str, bound: float) -> bool:
  """Whether the whole 95% interval of a number lies above a bound."""
  values = numbers(found)[name]
  values = values[np.isfinite(values)]
  return len(values) > 1 and stats.mean_interval(values).ci95[0] > bound


def said_of(name: str) -> str:
  """The name of a number in words."""
  return name.replace("_", " ")


def _swaps(
  setting: str, variant: str, found: GraphResults
) -> Iterator[Statement]:
  """Whether what is decided where the answer starts decides the arm."""
  mark = stars.ANSWER if stars.ANSWER in found.places else stars.GOAL
  # The step out of the start; behind the steps stands the whole answer.
  step = found.first if found.first >= 0 else found.first - 1
  # The last one is the stream behind the last block.
  moved = found.answers.moved[:, :, -2, step]
  more = (
    moved[:, found.places.index(mark)]
    - moved[:, found.places.index(stars.BEFORE)]
  )
  yield Statement(
    f"{setting}/swap/answer/{variant}",
    f"{setting}: {variant}, with another goal's stream put in where the answer"
    " starts, into the last block, turns to that goal's arm more often than"
    " with it put in before the goal, where nothing can change; the estimate is"
    " the difference of the shares of first steps, above 0",
    _OURS,
    _UNIT,
    more,
    ABOVE_0,
    PAIRED,
  )
