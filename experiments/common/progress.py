"""How far a run is, and how long the rest of it will take.

Not a binary: `experiments.common.training_flags` and
`experiments.common.ray_launcher` tell it.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
from rich import console, progress

from jaxlook.attention import Variant
from jaxlook.models import parameter_counts
from jaxlook.training import Problem


class Progress:
  """Progress over all arms: a bar with time left, or plain lines.

  Plain lines appear on anything that is not a terminal, at most one every
  `_SECONDS` seconds. The time left comes from the time between reports of the
  same arm, so that compiling, and arms that an earlier run has trained, do not
  distort it. Of arms that are trained at the same time, `at_a_time` says how
  many there are.
  """

  _SECONDS = 15.0
  at_a_time = 1

  def __init__(self, total_steps: int, total_cost: float | None = None):
    """Starts at nothing done.

    Args:
      total_steps: of all arms.
      total_cost: of all steps, and of what else the time left should count, in
        the unit of the arms' costs; one a step by default.
    """
    self._total, self._done = total_steps, 0
    self._cost_left = total_steps if total_cost is None else total_cost
    self._timed_cost, self._timed_seconds = 0.0, 0.0
    self._last_line = time.monotonic()
    self._bar = None
    if console.Console().is_terminal:
      self._bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
      )
      self._task = self._bar.add_task("", total=total_steps)
      self._bar.start()

  def arm(
    self, name: str, step_cost: float = 1.0
  ) -> Callable[[int, np.ndarray], None]:
    """The reporter of one arm, to be told its step count and losses [E].

    Args:
      name: the arm's.
      step_cost: of one of its steps, in any unit that all arms share.

    Returns:
      The reporter.
    """
    before, last = None, 0

    def report(step: int, losses: np.ndarray) -> None:
      nonlocal before, last
      now = time.monotonic()
      if before is not None:
        self._timed_seconds += now - before
        self._timed_cost += step_cost * (step - last)
      finite = losses[np.isfinite(losses)]
      mean = f"{finite.mean():.4g}" if finite.size else "diverged"
      self._cost_left -= step_cost * (step - last)
      self._advance(f"{name}, step {step}, loss {mean}", step - last)
      before, last = now, step

    return report

  def _advance(self, status: str, steps: int) -> None:
    self._done += steps
    if self._timed_cost:
      rate = self._timed_seconds / self._timed_cost
      left = round(rate * self._cost_left / self.at_a_time)
      status += f", {left // 60} min {left % 60:02d} s left"
    if self._bar is not None:
      self._bar.update(self._task, advance=steps, description=status)
      return
    now = time.monotonic()
    if now - self._last_line >= self._SECONDS or self._done == self._total:
      self._last_line = now
      print(f"{self._done}/{self._total} steps: {status}", flush=True)

  def close(self) -> None:
    """Leaves the terminal as it was."""
    if self._bar is not None:
      self._bar.stop()


def step_cost(problem: Problem) -> float:
  """What a step costs, but for a factor that all problems share: 6 N D."""
  tokens = problem.train.batch_size * problem.model.max_length
  return parameter_counts(problem.model).total * tokens


def over(
  todo: Sequence[tuple[Problem, Variant]],
  later: Sequence[tuple[Problem, Variant]] = (),
) -> Progress:
  """Progress over arms, whose reporters are made with their `step_cost`.

  Args:
    todo: problem and variant of each arm.
    later: arms that the time left counts as well.
  """
  steps = [problem.train.steps for problem, _ in todo]
  costs = [
    problem.train.steps * step_cost(problem) for problem, _ in (*todo, *later)
  ]
  return Progress(sum(steps), sum(costs))
