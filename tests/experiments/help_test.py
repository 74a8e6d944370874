"""`--help` of the binaries, as users see it."""

import re
import subprocess
import sys

from absl import flags
from absl.testing import parameterized

from experiments import (
  gradient_anatomy,
  gradients,
  horizon,
  language,
  local_myopia,
  microscope,
  multiplication,
  placebo,
  planning,
  precache,
  runs,
  scaling,
  skip_trigrams,
)
from experiments.benchmarks import train_step
from experiments.common import app, shared_flags
from experiments.setups import gradient_anatomy_setup, planning_setup
from tests.fixtures import base, binaries

# A line on a flag, or the first one of several.
_ENTRY = re.compile(r"^  --(?:\[no\])?(\w+)", re.MULTILINE)
_TITLES = ["Flags of this binary", *shared_flags.GROUPS]


def _titles(page: str) -> list[str]:
  """The groups of flags, in order."""
  found = re.findall(r"^(.+):$", page, re.MULTILINE)
  return [title for title in found if title in _TITLES]


class ProgramsTest(base.TestCase):
  @classmethod
  def setUpClass(cls):
    """Asks several programs at once, as starting one takes seconds."""
    super().setUpClass()
    asked = {
      "planning": ("--preset=smoke", "--key=tally"),
      "gradient_anatomy": ("--task=text",),
      "scaling": (),
    }
    started = {
      name: subprocess.Popen(
        binaries.command(name, *arguments, "--help"),
        cwd=binaries.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      for name, arguments in asked.items()
    }
    cls.said = {
      name: (*program.communicate(), program.returncode)
      for name, program in started.items()
    }

  def entries(self, name: str) -> dict[str, str]:
    """What is said of each flag, in one line."""
    page = self.said[name][0]
    names = _ENTRY.findall(page)
    texts = _ENTRY.split(page)[2::2]
    return {
      flag: " ".join(text.partition("\n\n")[0].split())
      for flag, text in zip(names, texts, strict=True)
    }

  @parameterized.parameters("planning", "gradient_anatomy", "scaling")
  def test_page(self, name):
    """Status 0; the docstring, then the binary's own flags, in 80 columns."""
    page, errors, status = self.said[name]
    self.assertEqual((errors, status), ("", 0))
    module = sys.modules[f"experiments.{name}"]
    self.assertStartsWith(page, (module.__doc__ or "").strip())
    titles = _titles(page)
    self.assertEqual(titles, [each for each in _TITLES if each in titles])
    self.assertEqual(titles[0], "Flags of this binary")
    for line in page.splitlines():
      self.assertLessEqual(len(line), 80, line)

  def test_the_chosen_preset_decides(self):
    """Its values stand where the flags leave them to it."""
    planned = self.entries("planning")
    config = planning_setup.TALLY["smoke"]
    self.assertEndsWith(planned["layers"], f"[{config.layers}]")
    self.assertEndsWith(planned["steps"], f"[{config.train.steps}]")
    self.assertEndsWith(planned["pairs"], f"[{config.languages[0].pairs}]")
    self.assertEndsWith(planned["seeds"], f"[{config.seeds}]")
    anatomy = self.entries("gradient_anatomy")
    config = gradient_anatomy_setup.TEXT["cpu"]
    self.assertEndsWith(anatomy["width"], f"[{config.width}]")
    self.assertEndsWith(anatomy["sequences"], "[32]")
    self.assertEndsWith(self.entries("scaling")["model_size"], "[13k,51k,0.2M]")

  def test_a_shared_flag_means_what_it_says(self):
    """What it means here, where that is not what it means elsewhere."""
    self.assertStartsWith(
      self.entries("scaling")["model_size"], "Shapes of the models by name, two"
    )
    self.assertStartsWith(self.entries("gradient_anatomy")["attention"], "Vari")
    self.assertEndsWith(
      self.entries("scaling")["cache"], "text. [~/.cache/jaxlook]"
    )

  def test_flags_that_are_not_read_are_not_shown(self):
    """Those that the binary would refuse."""
    self.assertNotIn("length", self.entries("planning"))
    self.assertContainsSubset(("key", "language"), self.entries("planning"))
    self.assertNoCommonElements(
      ("attention", "layers", "p", "task"), self.entries("scaling")
    )


class BinariesTest(base.TestCase):
  @parameterized.parameters(
    gradient_anatomy,
    gradients,
    horizon,
    language,
    local_myopia,
    microscope,
    multiplication,
    placebo,
    planning,
    precache,
    runs,
    scaling,
    skip_trigrams,
    train_step,
  )
  def test_every_flag_that_is_read_is_shown_once(self, binary):
    """Under its group, in 80 columns."""
    page = app.help_text(binary.__name__, {}, {})
    self.assertCountEqual(_ENTRY.findall(page), app.read_by(binary.__name__))
    for line in page.splitlines():
      self.assertLessEqual(len(line), 80, line)

  def test_groups_hold_all_shared_flags(self):
    """Each once."""
    module = shared_flags.__name__
    declared = flags.FLAGS.flags_by_module_dict()[module]
    self.assertCountEqual(
      [name for names in shared_flags.GROUPS.values() for name in names],
      [flag.name for flag in declared],
    )

  def test_adopting_less_than_nothing(self):
    """A flag that is left out must have been named."""
    with self.assertRaisesRegex(ValueError, "'steps'"):
      shared_flags.adopt("some.module", "seeds", but=("steps",))
