"""The claims of `path_star`: published ones, and jaxlook's on the cuts."""

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
"""The least difference from chance or ordinary training that counts."""

GUESSED = (FORWARD, TEACHERLESS, MASKED)
"""Settings in which a predictor that knows only the edges must guess the first
step."""

PREDICTED = {"first_step": "", "path_written": "/path"}
"""Numbers that no cut should lower in the weights, and ends of claim ids."""


Every = Mapping[str, Mapping[str, GraphResults]]
"""Results by setting and variant."""


def numbers(found: GraphResults) -> dict[str, np.ndarray]:
  """One number per seed for each measure, [E] by name."""
  answers = found.answers
  return {
    "first_step": found.forced[:, :-1][:, found.first],
    "later_steps": _others(found.forced[:, :-1], found.first),
    "path_forced": found.forced[:, -1],
    "first_step_written": answers.written[:, found.first],
    "path_written": answers.whole,
    "beam_gain": answers.beam_gain,
    "path_beamed": answers.beamed,
    "first_step_loss": answers.losses[:, found.first],
    "later_steps_loss": _others(answers.losses, found.first),
  }


def _others(values: np.ndarray, first: int) -> np.ndarray:
  """The mean of the other columns; NaN if there are none."""
  rest = np.delete(values, first, axis=1)
  return rest.mean(axis=1) if rest.shape[1] else np.full(len(rest), np.nan)


def statements(every: Every) -> Iterator[Statement]:
  """The claims on the settings that were run.

  Args:
    every: all results.

  Yields:
    Published claims on ordinary training, then claims on the cuts.
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
  """Whether training has learned the edges, which planning needs."""
  return Statement(
    f"{setting}/edges",
    f"{setting}: the accuracy of the first step is at least 1/d - {MARGIN}, as"
    " for a predictor that knows the edges and guesses the arm; if ordinary"
    " training does not reach this, there are no claims on plans",
    _OURS,
    _UNIT,
    numbers(found)["first_step"],
    {"low": found.chance - MARGIN},
  )


def knows_edges(found: GraphResults) -> bool:
  """Whether first steps are surely right as often as a guess among arms."""
  return _surely_above(found, "first_step", found.chance - MARGIN)


def _published(setting: str, found: GraphResults) -> Iterator[Statement]:
  """B1, B2 and B4: ordinary training."""
  chance, by_name = found.chance, numbers(found)
  first, whole = by_name["first_step"], by_name["path_written"]
  # Greedy decoding is right exactly if all forced steps are, and these are
  # measured on more graphs.
  forced = by_name["path_forced"]

  def claim(id, words, source, values, **bounds):
    text = f"{setting}: {words}"
    return Statement(id, text, source, _UNIT, values, bounds)

  if setting == FORWARD:
    words = f"the accuracy of the first step is 1/d = {chance:.3g} within 0.02"
    near = {"low": chance - 0.02, "high": chance + 0.02}
    yield claim("B1/first", words, _STAR, first, **near)
    words = "the accuracy of later steps, given the true path, is at least 0.99"
    yield claim("B1/later", words, _STAR, by_name["later_steps"], low=0.99)
  elif setting == REVERSED:
    words = "the accuracy of written paths is at least 0.95 (recalled)"
    yield claim("B2/easy", words, _STAR, forced, low=0.95)
    words = f"the accuracy of written paths is 1/d = {chance:.3g} within 0.05"
    near = {"low": chance - 0.05, "high": chance + 0.05}
    words += " (published: .49)"
    yield claim("B2/hard", words, _MASKING, forced, **near)
  elif setting == TEACHERLESS:
    words = "the accuracy of the first step is above 1/d + 0.02"
    yield claim("B2/teacherless", words, _STAR, first, low=chance + 0.02)
  elif setting == MASKED:
    words = "the accuracy of written paths is at least 0.95 (published: 1.00)"
    yield claim("B2/masked", words, _MASKING, forced, low=0.95)
  else:
    words = "the accuracy of paths to held-out leaves is at least 0.95"
    yield claim(f"B4/{setting}", words, _WEIGHTS, whole, low=0.95)
    words = "the accuracy of the first step to held-out leaves is at least 0.05"
    words += f" above 1/d = {chance:.3g}"
    id = f"B4/{setting}/above_chance"
    yield claim(id, words, _WEIGHTS, first, low=chance + 0.05)


def _of_cut(
  setting: str, cut: str, by: Mapping[str, GraphResults]
) -> Iterator[Statement]:
  """What a cut of the future's gradient costs."""
  if setting in IN_WEIGHTS:
    yield from _not_lost(setting, cut, by)
    return
  name = "first_step" if setting == FORWARD else "path_forced"
  less = numbers(by[cut])[name] - numbers(by[CAUSAL])[name]
  yield Statement(
    f"{setting}/{cut}/less",
    f"{setting}: the accuracy of {cut} minus that of {CAUSAL} is below 0"
    f" ({said_of(name)})",
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
    accuracy = numbers(by[cut])[name]
    yield Statement(
      f"B4/{setting}/{cut}/above_chance{end}",
      f"{setting}: the accuracy of {cut} on held-out leaves is at least"
      f" {MARGIN} above 1/d = {by[cut].chance:.3g} ({said_of(name)})",
      source,
      _UNIT,
      accuracy,
      {"low": least},
    )
    if learned(by[CAUSAL], name):
      yield Statement(
        f"B4/{setting}/{cut}/no_loss{end}",
        f"{setting}: the accuracy of {cut} is at most {MARGIN} below that of"
        f" {CAUSAL} ({said_of(name)})",
        source,
        _UNIT,
        accuracy - numbers(by[CAUSAL])[name],
        {"low": -MARGIN},
        PAIRED,
      )


def learned(found: GraphResults, name: str) -> bool:
  """Whether ordinary training learned something that a cut could lose.

  Args:
    found: the results of ordinary training.
    name: one of the names of `numbers`.

  Returns:
    Whether the 95% interval lies more than `MARGIN` above chance; False for
    fewer than two seeds.
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
  """Whether the state where the answer starts decides the arm."""
  mark = stars.ANSWER if stars.ANSWER in found.places else stars.GOAL
  # The step that leaves the start; the entry after the steps is the whole
  # answer.
  step = found.first if found.first >= 0 else found.first - 1
  # The last entry of the layer axis is the stream after the last block.
  moved = found.answers.moved[:, :, -2, step]
  more = (
    moved[:, found.places.index(mark)]
    - moved[:, found.places.index(stars.BEFORE)]
  )
  yield Statement(
    f"{setting}/swap/answer/{variant}",
    f"{setting}: {variant} takes the arm of another goal more often if the"
    " stream into the last block is swapped with that goal's where the answer"
    " starts than if it is swapped before the goal, where nothing can change;"
    " the estimate is the difference of the shares of first steps, above 0",
    _OURS,
    _UNIT,
    more,
    ABOVE_0,
    PAIRED,
  )
