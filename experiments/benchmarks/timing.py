"""Times of several contenders in one run, and ratios with their intervals.

Absolute times belong to one machine and one moment; what lasts are ratios of
times taken in turns. So every round runs every contender once, and intervals
resample whole rounds: what slows a round down slows both sides of a ratio.

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
"""What is faster is called several times in a row, to last about this long."""

FEWEST_ROUNDS = 6
"""With fewer no interval holds a median 95 times of 100: 5 samples all lie on
one side of it with a probability of 2 / 2^5."""

_MOST_CALLS = 1000

Run = Callable[[], None]
Clock = Callable[[], float]


@dataclasses.dataclass(frozen=True)
class Samples:
  """The times of one contender, round by round.

  Attributes:
    seconds: of wall time a call, [R].
    cpu_seconds: of processor time a call, of all threads of this process, [R].
    calls: back to back in a round, of which a time is the mean.
  """

  seconds: np.ndarray
  cpu_seconds: np.ndarray
  calls: int

  @property
  def median(self) -> float:
    """Seconds a call, the median of the rounds."""
    return float(np.median(self.seconds))

  @property
  def quartiles(self) -> tuple[float, float]:
    """Seconds a call, first and third quartile of the rounds."""
    low, high = np.percentile(self.seconds, (25, 75))
    return float(low), float(high)

  @property
  def busy_cores(self) -> float:
    """Processor time over wall time: how many cores were busy on average."""
    return float(np.sum(self.cpu_seconds) / np.sum(self.seconds))

  def divided_by(self, parts: int) -> "Samples":
    """The times of one of the equal parts that a call consists of."""
    return dataclasses.replace(
      self,
      seconds=self.seconds / parts,
      cpu_seconds=self.cpu_seconds / parts,
      calls=self.calls * parts,
    )


def order(names: Sequence[str], row: int) -> list[str]:
  """The contenders' order in a round.

  It is rotated, so that each is first as often as last, and every other round
  runs backwards, so that none always follows the same one.
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
  """Times contenders in turns, after a warm-up that is not counted.

  Args:
    runs: by name, what to time; a call returns when its work is done.
    rounds: number of rounds R, at least 1.
    clock: gives seconds of wall time.
    cpu_clock: gives seconds of processor time.
    tick: told the number of rounds done.

  Returns:
    The samples by name.

  Raises:
    ValueError: there is nothing to run or no round.
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
        # Short work would else show what the one before left in the caches,
        # and its threads that still spin.
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
  """Warms up, and returns how many calls a sample takes."""
  run()
  start = clock()
  run()
  # A clock that stands still would else ask for infinitely many.
  elapsed = max(clock() - start, SAMPLE_SECONDS / _MOST_CALLS)
  return min(max(math.ceil(SAMPLE_SECONDS / elapsed), 1), _MOST_CALLS)


def ratio(over: np.ndarray, under: np.ndarray) -> stats.Interval:
  """The ratio of two medians, with a 95% interval over rounds.

  Args:
    over: the numerator's samples, [R].
    under: the denominator's, from the same rounds, [R].

  Returns:
    The interval; of width zero where no ratio varies.

  Raises:
    ValueError: as `resampled`.
  """
  return resampled(
    lambda a, b: np.median(a, axis=-1) / np.median(b, axis=-1), over, under
  )


def resampled(
  statistic: Callable[..., np.ndarray], *samples: np.ndarray
) -> stats.Interval:
  """A statistic with its percentile bootstrap interval over rounds.

  Args:
    statistic: of arrays [..., R], one for each of `samples`; reduces their last
      axis.
    *samples: [R] each; rounds are drawn for all of them together.

  Returns:
    The interval, paired by round; its ends are NaN below `FEWEST_ROUNDS`.

  Raises:
    ValueError: the samples differ in shape, are not one-dimensional, or hold
      no round or what is not finite.
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
