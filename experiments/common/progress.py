"""How far a run is, and how long the rest of it will take.

Not a binary. `Meter` shows it; `ArmProgress` counts training steps of arms and
`count` anything else, such as the rounds of a benchmark.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rich import console, progress

from jaxlook.attention import Variant
from jaxlook.models import parameter_counts
from jaxlook.training import Problem


class Meter:
  """Shows progress: a bar on a terminal, plain lines anywhere else.

  Plain lines appear at most every `SECONDS` seconds, and at the end.
  """

  SECONDS = 15.0

  def __init__(self, total: int, unit: str, *, clock: bool = True):
    """Starts at nothing done.

    Args:
      total: what there is to do.
      unit: of the total, as "steps".
      clock: whether the bar's clock runs between calls of `show`. A thread
        moves it, which would disturb what is being timed.
    """
    self._total, self._unit = total, unit
    self._last_line = time.monotonic()
    self._bar = None
    if console.Console().is_terminal:
      self._bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        auto_refresh=clock,
      )
      self._task = self._bar.add_task("", total=total)
      self._bar.start()

  def show(self, done: int, status: str, seconds_left: float | None) -> None:
    """Shows how far it is.

    Args:
      done: how much of the total.
      status: what is being done.
      seconds_left: an estimate; None while there is none.
    """
    if seconds_left is not None:
      left = round(seconds_left)
      status += f", {left // 60} min {left % 60:02d} s left"
    if self._bar is not None:
      self._bar.update(
        self._task, completed=done, description=status, refresh=True
      )
      return
    now = time.monotonic()
    if now - self._last_line >= self.SECONDS or done == self._total:
      self._last_line = now
      print(f"{done}/{self._total} {self._unit}: {status}", flush=True)

  def close(self) -> None:
    """Leaves the terminal as it was."""
    if self._bar is not None:
      self._bar.stop()


class ArmProgress:
  """Progress over the training steps of all arms.

  The time left comes from the time between reports of the same arm. The first
  report after a number of steps is not timed, because a chunk of another length
  is compiled anew. So compiling, and arms that an earlier run has trained, do
  not distort it.

  Attributes:
    at_a_time: how many arms are trained at the same time; may be changed.
  """

  def __init__(self, total_steps: int, total_cost: float | None = None):
    """Starts at nothing done.

    Args:
      total_steps: of all arms.
      total_cost: of all steps, and of what else the time left should count, in
        the unit of the arms' costs; one a step by default.
    """
    self.at_a_time = 1
    self._meter = Meter(total_steps, "steps")
    self._done = 0
    self._cost_left = total_steps if total_cost is None else total_cost
    self._timed_cost, self._timed_seconds = 0.0, 0.0

  def arm(
    self, name: str, step_cost: float = 1.0
  ) -> Callable[[int, np.ndarray], None]:
    """Makes the reporter of one arm.

    Args:
      name: the arm's.
      step_cost: of one of its steps, in any unit that all arms share.

    Returns:
      A function to call with the arm's step count and losses [E].
    """
    before, last = None, 0
    compiled: set[int] = set()

    def report(step: int, losses: np.ndarray) -> None:
      nonlocal before, last
      now = time.monotonic()
      known = step - last in compiled
      compiled.add(step - last)
      if before is not None and known:
        self._timed_seconds += now - before
        self._timed_cost += step_cost * (step - last)
      finite = losses[np.isfinite(losses)]
      mean = f"{finite.mean():.4g}" if finite.size else "diverged"
      self._cost_left -= step_cost * (step - last)
      self._done += step - last
      self._meter.show(
        self._done, f"{name}, step {step}, loss {mean}", self._seconds_left()
      )
      before, last = now, step

    return report

  def _seconds_left(self) -> float | None:
    if not self._timed_cost:
      return None
    rate = self._timed_seconds / self._timed_cost
    return rate * self._cost_left / self.at_a_time

  def close(self) -> None:
    """Leaves the terminal as it was."""
    self._meter.close()


def step_cost(problem: Problem) -> float:
  """What a step costs, but for a factor that all problems share: 6 N D."""
  tokens = problem.train.batch_size * problem.model.max_length
  return parameter_counts(problem.model).total * tokens


def over_arms(
  todo: Sequence[tuple[Problem, Variant]],
  later: Sequence[tuple[Problem, Variant]] = (),
) -> ArmProgress:
  """Progress over arms; each arm's reporter takes its `step_cost`.

  Args:
    todo: problem and variant of each arm.
    later: arms that the time left counts as well.
  """
  steps = [problem.train.steps for problem, _ in todo]
  costs = [
    problem.train.steps * step_cost(problem) for problem, _ in (*todo, *later)
  ]
  return ArmProgress(sum(steps), sum(costs))


@contextlib.contextmanager
def count(
  status: str, total: int, unit: str
) -> Iterator[Callable[[int], None]]:
  """Shows progress over things that take equally long and may be timed.

  Args:
    status: what is being done.
    total: how many there are.
    unit: what they are, as "rounds".

  Yields:
    A function to call with the number of those that are done.
  """
  meter = Meter(total, unit, clock=False)
  started = time.monotonic()

  def tick(done: int) -> None:
    elapsed = time.monotonic() - started
    meter.show(done, status, elapsed * (total - done) / done)

  try:
    yield tick
  finally:
    meter.close()
