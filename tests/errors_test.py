"""The error of a setting, and the words of all of the library's errors."""

import ast
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

import jaxlook
from jaxlook.errors import SettingError, check_ids
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


class CheckIdsTest(base.TestCase):
  @parameterized.parameters(np.asarray, jnp.asarray)
  def test_ids_outside_the_vocabulary_are_refused(self, array):
    """Both ends, in any shape."""
    check_ids(5, array([[0, 4]]))
    check_ids(5, array(np.zeros((0, 3), np.int32)))
    check_ids(None, array([[0.5, -1.0]]))
    for ids in ([-1], [[0, 5]], [[[2**30]]]):
      with self.assertRaisesRegex(ValueError, r"tokens must lie in 0\.\.4"):
        check_ids(5, array(ids))
    for ids in ([0.5], [float("nan")], [True]):
      with self.assertRaisesRegex(ValueError, "tokens must be integers, not"):
        check_ids(5, array(ids))

  def test_traced_ids_pass(self):
    """They have no values yet."""
    jax.eval_shape(lambda x: check_ids(5, x), jnp.array([9]))


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
