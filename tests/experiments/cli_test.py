"""Refusals in one line, and progress."""

import contextlib
import io
from unittest import mock

import numpy as np
from absl import flags
from absl.testing import parameterized

from experiments import cli
from tests import base


class NamingTest(base.TestCase):
  @parameterized.parameters(
    (ValueError("heads=3 do not divide width=8"), "--heads: heads=3 do not"),
    (ValueError("something else"), "--width: something else"),
    (FileNotFoundError("no such file"), "--width: no such file"),
    (ImportError("needs an extra"), "--width: needs an extra"),
    (ValueError("two\n  lines"), "--width: two lines"),
  )
  def test_the_flag_of_the_field_is_blamed(self, error, message):
    """The field that begins a message names the flag; else the first one."""
    with self.assertRaises(cli.UsageError) as caught:
      with cli.naming("width", "heads"):
        raise error
    self.assertStartsWith(str(caught.exception), message)

  def test_other_errors_pass(self):
    """A bug is not blamed on the user."""
    with self.assertRaises(KeyError):
      with cli.naming("width"):
        raise KeyError("width")


class FlagsTest(base.TestCase):
  def test_a_flag_of_others_is_refused(self):
    """One that only other binaries read would change nothing."""
    values = flags.FlagValues()
    for name in ("read", "shared"):
      flags.DEFINE_integer(name, 1, "", flag_values=values)
      values.register_flag_by_module("experiments.shared", values[name])
    values.register_key_flag_for_module("binary", values["read"])
    errors = io.StringIO()
    with (
      mock.patch.object(flags, "FLAGS", values),
      contextlib.redirect_stderr(errors),
    ):
      self.assertEqual(cli._parse_flags(["binary", "--read=2"]), ["binary"])
      with self.assertRaises(SystemExit) as caught:
        cli._parse_flags(["binary", "--shared=1"])
    self.assertEqual(caught.exception.code, cli.BAD_INPUT)
    self.assertEqual(
      errors.getvalue(), "--shared: is of no use here; see --help\n"
    )


class ProgressTest(base.TestCase):
  def test_plain_lines_end_with_the_last_step(self):
    """Off a terminal the last line says all steps are done."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
      progress = cli.Progress(total_steps=20)
      for name in ("causal", "myopic/kv"):
        report = progress.arm(name)
        report(5, np.array([0.5, 0.7]))
        report(10, np.array([np.nan, np.nan]))
      progress.close()
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
        mock.patch.object(cli.Progress, "_SECONDS", 0.0),
        mock.patch.object(cli.time, "monotonic", side_effect=range(0, 99, 10)),
      ):
        progress = cli.Progress(total_steps=20)
        progress.at_a_time = at_a_time
        report = progress.arm("causal")
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
      mock.patch.object(cli.time, "monotonic", lambda: next(now)),
    ):
      progress = cli.Progress(total_steps=20, total_cost=2 * 10 + 3 * 10)
      report = progress.arm("small", step_cost=2.0)
      report(5, np.array([0.5]))
      report(10, np.array([0.5]))
    self.assertIn("small, step 10", written.getvalue())
    self.assertIn("1 min 00 s left", written.getvalue())
