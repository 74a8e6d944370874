"""Refusals in one line."""

import contextlib
import io
from unittest import mock

from absl import flags
from absl.testing import parameterized

from experiments.common import app
from tests.fixtures import base


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
    with self.assertRaises(app.UsageError) as caught:
      with app.naming("width", "heads"):
        raise error
    self.assertStartsWith(str(caught.exception), message)

  def test_other_errors_pass(self):
    """A bug is not blamed on the user."""
    with self.assertRaises(KeyError):
      with app.naming("width"):
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
      for module, name in (("__main__", "binary"), ("binary", "wrapper")):
        self.assertEqual(app._parse_flags(module, [name, "--read=2"]), [name])
      with self.assertRaises(SystemExit) as caught:
        app._parse_flags("__main__", ["binary", "--shared=1"])
    self.assertEqual(caught.exception.code, app.BAD_INPUT)
    self.assertEqual(
      errors.getvalue(), "--shared: is of no use here; see --help\n"
    )
