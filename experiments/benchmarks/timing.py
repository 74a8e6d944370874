"""Times of several contenders in one run, and ratios with their intervals.

Absolute times depend on the machine and the moment. Ratios of times that were
taken in turns are stable. So every round runs every contender once, and
intervals resample whole rounds: a slow round slows both sides of a ratio.

Source of the interval: Efron and Tibshirani (1993), "An introduction to the
bootstrap", section 13.3 (percentile interval).
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxlook import stats

SAMPLE_SECONDS = 0.02
"""A sample lasts about this long; a faster call is repeated to fill it."""

FEWEST_ROUNDS = 6
"""With fewer rounds no interval covers a median 95 times out of 100: all 5
samples lie on one side of it with a probability of 2 / 2^5."""

_MOST_CALLS = 1000

Run = Callable[[], None]
Clock = Callable[[], float]


@dataclasses.dataclass(frozen=True)
class Samples:
  """The times of one contender, round by round.

  Attributes:
    seconds: wall time per call, [R].
    cpu_seconds: processor time per call, over all threads of this process,
      [R].
    calls: calls in a round, back to back; a time is their mean.
  """

  seconds: np.ndarray
  cpu_seconds: np.ndarray
  calls: int

  @property
  def median(self) -> float:
    """Seconds per call, the median over rounds."""
    return float(np.median(self.seconds))

  @property
  def quartiles(self) -> tuple[float, float]:
    """Seconds per call, first and third quartile over rounds."""
    low, high = np.percentile(self.seconds, (25, 75))
    return float(low), float(high)

  @property
  def busy_cores(self) -> float:
    """Processor time over wall time: how many cores were busy on average."""
    return float(np.sum(self.cpu_seconds) / np.sum(self.seconds))

  def divided_by(self, parts: int) -> "Samples":
    """The times of one part, where a call consists of equal parts."""
    return dataclasses.replace(
      self,
      seconds=self.seconds / parts,
      cpu_seconds=self.cpu_seconds / parts,
      calls=self.calls * parts,
    )


def order(names: Sequence[str], row: int) -> list[str]:
  """The order of the contenders in a round.

  It rotates, so that each contender is first as often as last. Every other
  round runs backwards, so that no contender always follows the same one.
  """
  first = row % len(names)
  turned = [*names[first:], *names[:first]]
  return turned[::-1] if row % 2 else turned


def interleave(
  runs: Mapping[str, Run],
  rounds: int,
  *,
  clock: Clock = time.perf_counter,
  cpu_clock: Clock = time.process_time,
  tick: Callable[[int], None] = lambda done: None,
) -> dict[str, Samples]:
  """Times contenders in turns, after a warm-up that does not count.

  Args:
    runs: by name, what to time; a call returns when its work is done.
    rounds: number of rounds R, at least 1.
    clock: returns seconds of wall time.
    cpu_clock: returns seconds of processor time.
    tick: called with the number of rounds done.

  Returns:
    The samples by name.

  Raises:
    ValueError: `runs` is empty or `rounds` is below 1.
  """
  if not runs or rounds < 1:
    raise ValueError(
      f"rounds must be at least 1 with something to run, not {rounds} of"
      f" {len(runs)}"
    )
  calls = {name: _calls(run, clock) for name, run in runs.items()}
  times = {name: np.zeros((2, rounds)) for name in runs}
  for row in range(rounds):
    for name in order(list(runs), row):
      if calls[name] > 1:
        # Without this, a short call would suffer from the caches and the
        # spinning threads that the contender before it left.
        runs[name]()
      start = np.array((clock(), cpu_clock()))
      for _ in range(calls[name]):
        runs[name]()
      end = np.array((clock(), cpu_clock()))
      times[name][:, row] = (end - start) / calls[name]
    tick(row + 1)
  return {
    name: Samples(wall, cpu, calls[name]) for name, (wall, cpu) in times.items()
  }


def _calls(run: Run, clock: Clock) -> int:
  """Warms up, and returns how many calls fill a sample."""
  run()
  start = clock()
  run()
  # A clock that stands still must not ask for infinitely many calls.
  elapsed = max(clock() - start, SAMPLE_SECONDS / _MOST_CALLS)
  return min(max(math.ceil(SAMPLE_SECONDS / elapsed), 1), _MOST_CALLS)


def ratio(over: np.ndarray, under: np.ndarray) -> stats.Interval:
  """The ratio of two medians, with a 95% interval over rounds.

  Args:
    over: the numerator's samples, [R].
    under: the denominator's, from the same rounds, [R].

  Returns:
    The interval; its width is zero where the ratio does not vary.

  Raises:
    ValueError: as in `resampled`.
  """
  return resampled(
    lambda a, b: np.median(a, axis=-1) / np.median(b, axis=-1), over, under
  )


def resampled(
  statistic: Callable[..., np.ndarray], *samples: np.ndarray
) -> stats.Interval:
  """A statistic with its percentile bootstrap interval over rounds.

  Args:
    statistic: takes arrays [..., R], one for each of `samples`, and reduces
      their last axis.
    *samples: [R] each; rounds are drawn for all of them together.

  Returns:
    The interval, paired by round; its ends are NaN below `FEWEST_ROUNDS`.

  Raises:
    ValueError: the samples differ in shape, are not one-dimensional, are
      empty, or are not finite.
  """
  arrays = [np.asarray(sample, np.float64) for sample in samples]
  rounds = arrays[0].size
  if any(array.shape != (rounds,) for array in arrays):
    raise ValueError(
      "samples must be one number a round, for the same rounds, not"
      f" {[array.shape for array in arrays]}"
    )
  if not rounds:
    raise ValueError("samples must hold at least one round")
  if not all(np.isfinite(array).all() for array in arrays):
    raise ValueError("samples must be finite")
  low = high = math.nan
  if rounds >= FEWEST_ROUNDS:
    generator = np.random.default_rng(stats.BOOTSTRAP_SEED)
    drawn = generator.integers(rounds, size=(stats.BOOTSTRAP_RESAMPLES, rounds))
    values = statistic(*(array[drawn] for array in arrays))
    low, high = np.percentile(values, (2.5, 97.5))
  return stats.Interval(
    estimate=float(statistic(*arrays)),
    ci95=(float(low), float(high)),
    n=rounds,
    pairing="paired by round",
  )
