"""The public names: they exist, are sorted, and say what they are."""

import importlib
import pathlib
import pkgutil
import re
import subprocess
import sys
from typing import Any

from absl.testing import parameterized

import jaxlook
from tests.fixtures import base

PACKAGES = ("jaxlook",) + tuple(
  f"jaxlook.{module.name}"
  for module in pkgutil.iter_modules(jaxlook.__path__)
  if module.ispkg
)
ROOT = pathlib.Path(__file__).parents[1]


class ApiTest(base.TestCase):
  @parameterized.parameters(*PACKAGES)
  def test_all_is_sorted_real_and_documented(self, name):
    """What `__all__` promises is there, with a docstring."""
    package = importlib.import_module(name)
    self.assertEqual(package.__all__, sorted(package.__all__))
    for public in package.__all__:
      member = getattr(package, public)
      if callable(member):
        self.assertTrue(member.__doc__, f"{name}.{public} has no docstring")

  def test_core_imports_without_the_text_extra(self):
    """The synthetic side needs neither grain nor tokenizers."""
    code = (
      "import sys; sys.modules.update(grain=None, tokenizers=None);"
      "import jaxlook.tasks, jaxlook.training, jaxlook.reporting.tables;"
      "assert not any(m.startswith('experiments') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

  def test_examples_of_the_readme_run(self):
    """The example of the README does what its comments say."""
    text = (ROOT / "README.md").read_text()
    (gradient,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(gradient, names)  # noqa: S102
    self.assertLess(names["blocked"], 1e-6)
    self.assertGreater(names["asked"], 1e-3)
