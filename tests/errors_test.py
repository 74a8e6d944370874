"""The error of a setting, and the words of all of the library's errors."""

import ast
import pathlib
import pickle

import jaxlook
from jaxlook.errors import SettingError
from tests.fixtures import base

LIBRARY = pathlib.Path(jaxlook.__file__).parent


class SettingErrorTest(base.TestCase):
  def test_one_line_that_names_the_field(self):
    """What a program may want apart is apart; the text is for people."""
    error = SettingError("heads", "must divide\n  width=8, not 3")
    self.assertEqual(str(error), "heads must divide width=8, not 3")
    self.assertEqual(
      (error.field, error.message), ("heads", "must divide width=8, not 3")
    )
    self.assertIsInstance(error, ValueError)
    self.assertIs(jaxlook.SettingError, SettingError)

  def test_it_comes_from_another_process(self):
    """Tasks of a cluster send their errors as pickles."""
    error = pickle.loads(pickle.dumps(SettingError("p", "must lie in [0, 1]")))
    self.assertEqual(str(error), "p must lie in [0, 1]")
    self.assertEqual(error.field, "p")


class MessagesTest(base.TestCase):
  def test_no_message_speaks_of_flags(self):
    """The library does not know who calls it: only binaries have flags."""
    found, messages = [], 0
    for path in sorted(LIBRARY.rglob("*.py")):
      for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Raise) or node.exc is None:
          continue
        for part in ast.walk(node.exc):
          if isinstance(part, ast.Constant) and isinstance(part.value, str):
            messages += 1
            if "--" in part.value:
              found.append(f"{path.name}:{part.lineno}: {part.value}")
    self.assertEmpty(found)
    self.assertGreater(messages, 100)
