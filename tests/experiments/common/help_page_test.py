"""What `--help` says of flags."""

from absl import flags
from absl.testing import absltest

from experiments.common import help_page
from tests.fixtures import base


def _flags() -> flags.FlagValues:
  found = flags.FlagValues()
  flags.DEFINE_integer("count", None, "How many.", flag_values=found)
  flags.DEFINE_bool("fast", False, "Whether to hurry.", flag_values=found)
  flags.DEFINE_enum(
    "kind", None, ("old", "new"), "Which one.", flag_values=found
  )
  flags.DEFINE_multi_string(
    "word", None, "A word; repeat for several. [none]", flag_values=found
  )
  flags.DEFINE_list("list_of_very_many", None, "Numbers.", flag_values=found)
  return found


class PageTest(base.TestCase):
  def entry(self, name, values=(), says=()):
    """The lines on one flag of a binary."""
    page = help_page.page(
      "About.\n", [_flags()[name]], {}, dict(values), dict(says)
    )
    return page.removeprefix("About.\n\nFlags of this binary:\n")

  def test_a_default_is_what_the_preset_says(self):
    """Or what the declaration says, or the text; or there is none."""
    space = " " * 15
    self.assertEqual(self.entry("count"), f"  --count{space}How many.")
    self.assertEqual(
      self.entry("count", {"count": 3}), f"  --count{space}How many. [3]"
    )
    self.assertEqual(
      self.entry("fast"), f"  --[no]fast{space[3:]}Whether to hurry. [false]"
    )
    self.assertEndsWith(self.entry("fast", {"fast": True}), "[true]")
    self.assertEndsWith(self.entry("word"), "for several. [none]")
    self.assertEndsWith(
      self.entry("word", {"word": ("a,b", "c")}), "for several. [a,b; c]"
    )

  def test_values_read_as_on_the_command_line(self):
    """A list has commas, a small number is short."""
    entry = self.entry("list_of_very_many", {"list_of_very_many": (1, 3e-4)})
    self.assertEndsWith(entry, "Numbers. [1,0.0003]")

  def test_choices_are_named(self):
    """Unless the text names them all; absl's own words are left out."""
    self.assertEndsWith(
      self.entry("kind", {"kind": "old"}), " Which one. One of old, new. [old]"
    )
    said = self.entry("kind", says={"kind": "old or new style. [new]"})
    self.assertEndsWith(said, "  old or new style. [new]")

  def test_columns(self):
    """Long texts wrap under themselves, long names have a line of their own."""
    says = {"list_of_very_many": "word " * 40}
    lines = self.entry("list_of_very_many", says=says).splitlines()
    self.assertEqual(lines[0][:24], "  --list_of_very_many   ")
    for line in lines:
      self.assertLessEqual(len(line), 80)
      self.assertEqual(line[24:28], "word")
    values = flags.FlagValues()
    name = "name_that_is_longer_than_the_column"
    flags.DEFINE_string(name, None, "Text.", flag_values=values)
    page = help_page.page("About.", [values[name]], {}, {}, {})
    self.assertEndsWith(page, f"  --{name}\n{' ' * 24}Text.")

  def test_groups(self):
    """The binary's own flags first; no title without flags."""
    found = _flags()
    page = help_page.page(
      "About.", [found["fast"]], {"One": [], "Two": [found["count"]]}, {}, {}
    )
    self.assertRegex(
      page, r"(?s)^About\.\n\nFlags of this binary:\n.*\n\nTwo:\n  --count"
    )
    self.assertNotIn("One", page)


if __name__ == "__main__":
  absltest.main()
