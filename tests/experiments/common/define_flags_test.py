"""Flags that take what they say, and nothing else."""

import os
from unittest import mock

from absl import flags
from absl.testing import parameterized

from experiments.common import define_flags
from tests.fixtures import base

_MAKERS = {
  "whole": define_flags.whole,
  "wholes": define_flags.wholes,
  "real": define_flags.real,
  "text": define_flags.text,
  "texts": define_flags.texts,
  "values": define_flags.values,
  "path": define_flags.path,
  "paths": define_flags.paths,
}


class DefineFlagsTest(base.TestCase):
  def test_a_range(self):
    """The error says it."""
    holder = mock.patch.object(flags, "DEFINE")
    with holder as define:
      define_flags.whole("rounds", 3, "", lower_bound=2, upper_bound=9)
    parser = define.call_args.args[0]
    self.assertEqual(parser.parse("9"), 9)
    with self.assertRaisesRegex(ValueError, r"in the range \[2, 9\]"):
      parser.parse("10")

  @parameterized.parameters(
    ("whole", "3", 3),
    ("wholes", "-3", -3),
    ("real", "1e-3", 1e-3),
    ("text", " a ", " a "),
    ("values", "a, b", ["a", "b"]),
    ("path", "a/b", "a/b"),
    ("path", "./~", "./~"),
  )
  def test_good_values(self, maker, text, value):
    """As they are written."""
    self.assertEqual(_parser(maker).parse(text), value)

  @parameterized.parameters(
    ("whole", "1_000", "must be a whole number"),
    ("whole", "", "must be a whole number"),
    ("wholes", "٣", "must be a whole number"),
    ("real", "nan", "must be a number"),
    ("real", "1e-400", "float32"),
    ("text", "", "is empty"),
    ("texts", " ", "is empty"),
    ("values", "", "is empty"),
    ("values", "1,,2", "comma between"),
    ("values", "1,", "comma between"),
    ("path", "", "is empty"),
    ("paths", "\t", "is empty"),
    ("path", "~nobody-of-that-name/x", "home folder"),
  )
  def test_bad_values(self, maker, text, message):
    """Nothing is read into a value."""
    with self.assertRaisesRegex(ValueError, message):
      _parser(maker).parse(text)

  def test_the_home_folder(self):
    """Its path, or a refusal: never a folder named ~."""
    with mock.patch.dict(os.environ, {"HOME": "/home/me"}):
      self.assertEqual(_parser("path").parse("~/run"), "/home/me/run")
    with (
      mock.patch.dict(os.environ),
      mock.patch("pwd.getpwuid", side_effect=KeyError),
    ):
      del os.environ["HOME"]
      with self.assertRaisesRegex(ValueError, "^~/run .*set HOME"):
        define_flags.expand_home("~/run")

  def test_a_flag_is_of_the_module_that_declares_it(self):
    """Not of the module whose function it calls."""
    name = "a_flag_of_this_test"
    define_flags.whole(name, None, "For a test.")
    self.addCleanup(flags.FLAGS.__delattr__, name)
    mine = flags.FLAGS.get_key_flags_for_module(__name__)
    self.assertIn(name, [flag.name for flag in mine])


def _parser(maker):
  """The parser of a kind of flag."""
  name = "a_flag_of_this_test"
  _MAKERS[maker](name, None, "For a test.")
  parser = flags.FLAGS[name].parser
  delattr(flags.FLAGS, name)
  return parser
