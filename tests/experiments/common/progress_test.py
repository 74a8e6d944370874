"""Progress of a run: lines, and the time that is left."""

import contextlib
import dataclasses
import io
from unittest import mock

import numpy as np

from experiments.common import progress
from jaxlook.attention import Spec, Variant
from tests.fixtures import base, precache_problem


class ProgressTest(base.TestCase):
  def test_plain_lines_end_with_the_last_step(self):
    """Off a terminal the last line says all steps are done."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
      shown = progress.ArmProgress(total_steps=20)
      for name in ("causal", "myopic/kv"):
        report = shown.arm(name)
        report(5, np.array([0.5, 0.7]))
        report(10, np.array([np.nan, np.nan]))
      shown.close()
    last = written.getvalue().splitlines()[-1]
    self.assertStartsWith(last, "20/20 steps: myopic/kv, step 10")
    self.assertIn("diverged", last)
    self.assertEndsWith(last, "0 min 00 s left")

  def test_time_left_of_arms_at_the_same_time(self):
    """Of arms that share the time each takes as long, and all half of it."""
    lefts = []
    for at_a_time in (1, 2):
      written = io.StringIO()
      with (
        contextlib.redirect_stdout(written),
        mock.patch.object(progress.Meter, "SECONDS", 0.0),
        mock.patch.object(
          progress.time, "monotonic", side_effect=range(0, 99, 10)
        ),
      ):
        shown = progress.ArmProgress(total_steps=20)
        shown.at_a_time = at_a_time
        report = shown.arm("causal")
        for step in (5, 10):
          report(step, np.array([0.5]))
      lefts.append(written.getvalue().splitlines()[-1])
    self.assertEndsWith(lefts[0], ", 0 min 40 s left")
    self.assertEndsWith(lefts[1], ", 0 min 20 s left")

  def test_time_left_weighs_steps_by_their_cost(self):
    """20 seconds for 5 steps of cost 2; what is left costs 30."""
    written, now = io.StringIO(), iter([0.0] * 3 + [20.0] * 2)
    with (
      contextlib.redirect_stdout(written),
      mock.patch.object(progress.time, "monotonic", lambda: next(now)),
    ):
      shown = progress.ArmProgress(total_steps=20, total_cost=2 * 10 + 3 * 10)
      report = shown.arm("small", step_cost=2.0)
      report(5, np.array([0.5]))
      report(10, np.array([0.5]))
    self.assertIn("small, step 10", written.getvalue())
    self.assertIn("1 min 00 s left", written.getvalue())

  def test_time_left_of_a_resumed_arm(self):
    """Chunks that may have been compiled are not timed: 10 s a chunk."""
    now = iter([0.0, 500.0, 900.0, 910.0])
    with (
      mock.patch.object(progress.time, "monotonic", lambda: next(now)),
      mock.patch.object(progress.Meter, "show") as show,
    ):
      report = progress.ArmProgress(total_steps=1000).arm("causal")
      # It went on at step 163, with a shorter chunk.
      for step in (200, 300, 400):
        report(step, np.array([0.5]))
    lefts = [call.args[2] for call in show.call_args_list]
    self.assertEqual(lefts[:2], [None, None])
    self.assertEqual(lefts[2], 60.0)

  def test_arms_that_come_later_count(self):
    """The time left is theirs too, weighed by the size of their models."""
    small = precache_problem.problem()
    model = dataclasses.replace(small.model, layers=3)
    large = dataclasses.replace(small, model=model)
    self.assertGreater(progress.step_cost(large), 2 * progress.step_cost(small))
    written, now = io.StringIO(), iter([0.0] * 3 + [10.0] * 2)
    with (
      contextlib.redirect_stdout(written),
      mock.patch.object(progress.Meter, "SECONDS", 0.0),
      mock.patch.object(progress.time, "monotonic", lambda: next(now)),
    ):
      variants = (
        Variant.uniform(Spec("causal"), each.layers, each.heads)
        for each in (small.model, large.model)
      )
      todo, later = zip((small, large), variants, strict=True)
      shown = progress.over_arms([todo], [later])
      report = shown.arm("small", progress.step_cost(small))
      report(small.train.steps // 2, np.zeros(1))
      report(small.train.steps, np.zeros(1))
    cost = progress.step_cost(large) / progress.step_cost(small)
    self.assertIn(
      f"{small.train.steps}/{small.train.steps} steps", written.getvalue()
    )
    left = round(2 * 10 * cost)
    self.assertIn(
      f"{left // 60} min {left % 60:02d} s left", written.getvalue()
    )

  def test_counting_ends_with_the_last_one(self):
    """One line says that all are done; before it there is time left."""
    written, now = io.StringIO(), iter([0.0, 0.0, 20.0, 20.0, 30.0, 30.0])
    with (
      contextlib.redirect_stdout(written),
      mock.patch.object(progress.time, "monotonic", lambda: next(now)),
      progress.count("4096 tokens", 3, "rounds") as tick,
    ):
      tick(1)
      tick(3)
    self.assertEqual(
      written.getvalue().splitlines(),
      [
        "1/3 rounds: 4096 tokens, 0 min 40 s left",
        "3/3 rounds: 4096 tokens, 0 min 00 s left",
      ],
    )

  def test_a_bar_ends_with_an_error(self):
    """An error while counting leaves the terminal as it was."""
    with (
      mock.patch.object(progress.console, "Console") as console,
      mock.patch.object(progress.progress, "Progress") as bar,
    ):
      console.return_value.is_terminal = True
      with self.assertRaises(RuntimeError):
        with progress.count("work", 2, "rounds") as tick:
          tick(1)
          raise RuntimeError
    bar.return_value.update.assert_called_once_with(
      mock.ANY, completed=1, description=mock.ANY, refresh=True
    )
    bar.return_value.stop.assert_called_once_with()
