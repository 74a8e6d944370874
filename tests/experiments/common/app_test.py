"""Refusals in one line."""

import contextlib
import errno
import io
import os
import pathlib
import signal
import sys
import tempfile
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
    (OSError(errno.EIO, "broken", "a/b"), "--width: a/b: broken", 1),
    (PermissionError(errno.EACCES, "denied", "a"), "--width: a: denied", 1),
    (FileNotFoundError(errno.ENOENT, "none", "a"), "--width: a: none", 2),
  )
  def test_a_fault_of_the_machine_has_its_own_status(
    self, error, message, status
  ):
    """Also where the library says it in other words."""
    other = ValueError("cannot write to a")
    other.__cause__ = error
    for raised, said in (
      (error, message),
      (other, "--width: cannot write to a"),
    ):
      with self.assertRaises(app.UsageError) as caught:
        with app.blaming("width"):
          raise raised
      self.assertEqual(str(caught.exception), said)
      self.assertEqual(caught.exception.status, status)

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

  @parameterized.parameters("1_000", "+1", "٣", "", "nan", "9" * 5000)
  def test_numbers_as_nobody_writes_them(self, text):
    """They are refused, in a line of readable length."""
    for kind in (int, float):
      with self.assertRaises(app.UsageError) as caught:
        app.numbers("p", ["1", text], kind)
      self.assertRegex(
        str(caught.exception), "^--p: must be .*numbers, not '1,"
      )
      self.assertLess(len(str(caught.exception)), 200)

  def test_text_for_any_terminal(self):
    """What its encoding lacks is printed as an escape."""
    with io.BytesIO() as written:
      stream = io.TextIOWrapper(written, encoding="ascii")
      with mock.patch.object(sys, "stdout", stream):
        app._print_anything()
        print("\u2264 \udce9")
        stream.flush()
      self.assertEqual(written.getvalue(), b"\\u2264 \\udce9\n")
      stream.detach()

  def test_numbers(self):
    """A list of numbers is read, or refused by its flag in plain words."""
    self.assertEqual(app.numbers("p", ["1", "0.5"], float), [1.0, 0.5])
    with self.assertRaises(app.UsageError) as caught:
      app.numbers("steps", ["1", "0.5"], int)
    self.assertEqual(
      str(caught.exception), "--steps: must be whole numbers, not '1,0.5'"
    )


class StopTest(base.TestCase):
  def test_remembers_within_its_context(self):
    """A signal is remembered within; afterwards it does what it did before."""
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append("before"))
    self.addCleanup(signal.signal, signal.SIGINT, before)
    with app.Stop() as stop:
      self.assertFalse(stop())
      os.kill(os.getpid(), signal.SIGINT)
      self.assertTrue(stop())
      self.assertEqual(stop.status, 128 + signal.SIGINT)
    self.assertEmpty(heard)
    os.kill(os.getpid(), signal.SIGINT)
    self.assertEqual(heard, ["before"])


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
  def setUp(self):
    """A binary that reads one of two flags of a module that it shares."""
    super().setUp()
    values = flags.FlagValues()
    for name in ("read", "shared"):
      flags.DEFINE_integer(
        name, 1, "", flag_values=values, module_name="experiments.shared"
      )
    values.register_key_flag_for_module("binary", values["read"])
    self.enterContext(mock.patch.object(flags, "FLAGS", values))

  def parse(self, module, *argv, arguments=False):
    """Parses a command line; returns what is left, the status, and output."""
    self.enterContext(mock.patch.object(sys, "argv", list(argv)))
    main = mock.Mock(__module__=module)
    rest, status = None, None
    with (
      contextlib.redirect_stderr(io.StringIO()) as errors,
      contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
      try:
        rest = app._parse_flags(main, lambda: "what it does", argv, arguments)
      except SystemExit as error:
        status = error.code
    return rest, status, printed.getvalue(), errors.getvalue()

  @parameterized.parameters(("__main__", "binary"), ("binary", "wrapper"))
  def test_a_flag_is_read(self, module, program):
    """By the binary as a program, or by its main in another one."""
    parsed = self.parse(module, program, "--read=2")
    self.assertEqual(parsed, ([program], None, "", ""))

  def test_arguments(self):
    """Of a binary that takes some; flags may stand between and after them."""
    found = self.parse(
      "__main__", "binary", "a", "--read=2", "b", arguments=True
    )
    self.assertEqual(found, (["binary", "a", "b"], None, "", ""))
    self.assertEqual(flags.FLAGS["read"].value, 2)
    found = self.parse("__main__", "binary", "a", "--no", arguments=True)
    self.assertEqual(found[1:3], (app.BAD_INPUT, ""))
    self.assertStartsWith(found[3], "--no: is not a flag of this binary")

  @parameterized.parameters(
    ("--shared=1", "--shared: has no effect on this binary; see --help\n"),
    ("word", "unexpected argument 'word'; every setting is a --flag\n"),
    ("--read=x", "--read=x: must be a whole number\n"),
    ("--raed=1", ".*raed.*read.*\n"),
  )
  def test_refusals(self, argument, message):
    """One line each, and status 2."""
    rest, status, printed, errors = self.parse("__main__", "binary", argument)
    self.assertEqual((rest, status, printed), (None, app.BAD_INPUT, ""))
    self.assertRegex(errors, f"^{message}$")

  @parameterized.parameters(
    (b"\xff\xfe\x00", "--flagfile: is not a text file: .*\n"),
    (
      b"--flagfile={file}\n",
      "--flagfile: must name no file .*\n",
    ),
    (b"--read=many\n", "--read=many: must be a whole number\n"),
    (None, "--flagfile: cannot be read: No such file or directory: .*\n"),
  )
  def test_files_of_flags(self, content, message):
    """Files that hold no flags are refused in one line."""
    folder = self.enterContext(tempfile.TemporaryDirectory())
    file = pathlib.Path(folder) / "flags"
    if content is not None:
      file.write_bytes(content.replace(b"{file}", bytes(file)))
    parsed = self.parse("__main__", "binary", f"--flagfile={file}")
    self.assertEqual(parsed[1:3], (app.BAD_INPUT, ""))
    self.assertRegex(parsed[3], f"^{message}$")
    parsed = self.parse("__main__", "binary", "--flagfile=")
    self.assertRegex(parsed[3], "^--flagfile: is empty; .*\n$")

  @parameterized.parameters("--help", "-help", "-h", "-?", "--helpshort")
  def test_help(self, word):
    """Answered with status 0, whatever else is given."""
    parsed = self.parse("__main__", "binary", "--read=2", word)
    self.assertEqual(parsed, (None, 0, "what it does\n", ""))
    self.assertEqual(flags.FLAGS["read"].value, 2)
