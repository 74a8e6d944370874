"""Refusals in one line."""

import contextlib
import io
import sys
from unittest import mock

from absl import app as absl_app
from absl import flags
from absl.testing import parameterized

from experiments.common import app, multiprocess
from jaxlook.errors import SettingError
from tests.fixtures import base


class BlamingTest(base.TestCase):
  @parameterized.parameters(
    (ValueError("something else"), "--width: something else"),
    (FileNotFoundError("no such file"), "--width: no such file"),
    (ImportError("needs an extra"), "--width: needs an extra"),
    (ValueError("two\n  lines"), "--width: two lines"),
  )
  def test_one_flag_is_blamed(self, error, message):
    """Files, packages and texts name no setting: the flag is named here."""
    with self.assertRaises(app.UsageError) as caught:
      with app.blaming("width"):
        raise error
    self.assertEqual(str(caught.exception), message)

  @parameterized.parameters(
    KeyError("width"), SettingError("heads", "must be at least 1, not 0")
  )
  def test_other_errors_pass(self, error):
    """A bug is not blamed on the user, a setting not on another flag."""
    with self.assertRaises(type(error)):
      with app.blaming("width"):
        raise error

  def test_a_setting_of_another_name(self):
    """The place where the flag is read says which setting it is."""
    with self.assertRaises(app.UsageError) as caught:
      with app.mapping(train="corpus", steps="data_steps"):
        raise SettingError("train", "is too short")
    self.assertEqual(str(caught.exception), "--corpus: is too short")
    with self.assertRaises(SettingError):
      with app.mapping(train="corpus"):
        raise SettingError("valid", "is too short")

  def test_numbers(self):
    """A list of numbers is read, or refused by its flag in plain words."""
    self.assertEqual(app.numbers("p", ["1", "0.5"], float), [1.0, 0.5])
    with self.assertRaises(app.UsageError) as caught:
      app.numbers("steps", ["1", "0.5"], int)
    self.assertEqual(
      str(caught.exception), "--steps: must be whole numbers, not '1,0.5'"
    )


class SettingsTest(base.TestCase):
  def setUp(self):
    """Flags of a binary, and of a module that it shares with others."""
    super().setUp()
    values = flags.FlagValues()
    for name in ("heads", "terms"):
      flags.DEFINE_integer(
        name, 1, "", flag_values=values, module_name="experiments.shared"
      )
    values.register_key_flag_for_module("binary", values["heads"])
    self.enterContext(mock.patch.object(flags, "FLAGS", values))

  def test_the_flag_of_the_name_is_blamed(self):
    """A refused setting is worded as the value of the flag of its name."""
    with self.assertRaises(app.UsageError) as caught:
      with app.settings_of("binary"):
        raise SettingError("heads", "must divide width=8, not 3")
    self.assertEqual(
      str(caught.exception), "--heads: must divide width=8, not 3"
    )

  @parameterized.parameters("terms", "rotary_base")
  def test_other_settings_pass(self, field):
    """A flag that the binary does not read cannot be at fault."""
    with self.assertRaises(SettingError):
      with app.settings_of("binary"):
        raise SettingError(field, "must be at least 1, not 0")

  def test_a_program(self):
    """A binary that refuses a setting ends with one line and status 2."""
    errors = io.StringIO()

    def main() -> None:
      raise SettingError("heads", "must divide width=8,\n not 3")

    with (
      mock.patch.object(main, "__module__", "binary"),
      mock.patch.object(absl_app, "run", lambda guarded, **_: guarded([])),
      mock.patch.object(multiprocess, "join"),
      contextlib.redirect_stderr(errors),
      self.assertRaises(SystemExit) as caught,
    ):
      app.run(main)
    self.assertEqual(caught.exception.code, app.BAD_INPUT)
    self.assertEqual(errors.getvalue(), "--heads: must divide width=8, not 3\n")


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
        with mock.patch.object(sys, "argv", [name, "--read=2"]):
          self.assertEqual(app._parse_flags(module, sys.argv), [name])
      with (
        mock.patch.object(sys, "argv", ["binary", "--shared=1"]),
        self.assertRaises(SystemExit) as caught,
      ):
        app._parse_flags("__main__", sys.argv)
    self.assertEqual(caught.exception.code, app.BAD_INPUT)
    self.assertEqual(
      errors.getvalue(), "--shared: has no effect on this binary; see --help\n"
    )
