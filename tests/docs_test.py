"""The README and the manual: links and names are real, examples run."""

import importlib
import importlib.util
import pathlib
import re
from typing import Any

import jax
import numpy as np
from absl.testing import parameterized

from tests.fixtures import base

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
  [ROOT / "README.md", ROOT / "BUILD.md", ROOT / "CHANGELOG.md"]
  + list((ROOT / "docs").rglob("*.md"))
)
NAMES = tuple(str(page.relative_to(ROOT)) for page in PAGES)
# The end of the README's first part, and how long that may be.
AFTER_TABLE = "## What to read next"
MOST_WORDS = 900


def _without_code(text: str) -> str:
  """A page's text without its fenced blocks."""
  return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def _anchors(page: pathlib.Path) -> set[str]:
  """The anchors that GitHub gives to the headings of a page."""
  text = _without_code(page.read_text())
  found = set()
  for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    found.add(kept.replace(" ", "-"))
  return found


def _code(text: str) -> list[str]:
  """What stands between single backticks."""
  return re.findall(r"`([^`\n]+)`", _without_code(text))


class DocsTest(base.TestCase):
  @parameterized.parameters(*NAMES)
  def test_links_and_images_lead_somewhere(self, name):
    """Relative links are files of the checkout, anchors are headings."""
    page = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text()))
    for link in links:
      if re.match(r"https?://|mailto:", link):
        continue
      path, _, anchor = link.partition("#")
      target = (page.parent / path).resolve() if path else page
      self.assertTrue(target.exists(), f"{name}: {link}")
      self.assertTrue(target.is_relative_to(ROOT), f"{name}: {link}")
      if anchor:
        self.assertIn(anchor, _anchors(target), f"{name}: {link}")

  @parameterized.parameters(*NAMES)
  def test_paths_in_code_exist(self, name):
    """A path of the checkout in backticks is a file or folder."""
    # A path that was renamed stands only in the change log's first column.
    tops = ("jaxlook/", "experiments/", "tests/", "docs/", ".ci/")
    for code in _code((ROOT / name).read_text()):
      if code.startswith(tops) and not re.search(r"[\s*<>{}=]|[A-Z]{4}", code):
        self.assertTrue((ROOT / code).exists(), f"{name}: {code}")

  @parameterized.parameters(*NAMES)
  def test_names_of_modules_and_binaries_are_real(self, name):
    """`python -m NAME` is a module, and so is a dotted name in backticks."""
    text = (ROOT / name).read_text()
    for module in re.findall(r"python -m ((?:experiments|tests)[\w.]+)", text):
      if not module.endswith("NAME"):
        self.assertTrue(_is_real(module), f"{name}: {module}")
    if name == "CHANGELOG.md":
      # The table of moved names has what is gone in its first column.
      text = "\n".join(
        new for new in re.findall(r"^\| .*? \| (.*) \|$", text, re.MULTILINE)
      )
    for code in _code(text):
      dotted = re.match(r"(jaxlook|experiments)(\.[A-Za-z_0-9]+)+", code)
      if dotted and not dotted.group().endswith("NAME"):
        self.assertTrue(_is_real(dotted.group()), f"{name}: {code}")

  @parameterized.parameters(*NAMES)
  def test_flags_are_real(self, name):
    """A flag in backticks is named by some binary."""
    if name == "CHANGELOG.md":
      return
    found = _code((ROOT / name).read_text())
    code = " ".join(each for each in found if not each.startswith("pip "))
    source = "\n".join(
      file.read_text() for file in (ROOT / "experiments").rglob("*.py")
    )
    for flag in re.findall(r"--([a-z]\w*)", code):
      if flag != "help":
        self.assertRegex(source, rf"(?m)[\"']{flag}[\"']|^  {flag}:", name)

  def test_table_of_the_readme_has_every_binary(self):
    """Each file of `experiments` with a `main` stands in the README's table."""
    listed = set(re.findall(r"\| `(experiments\.[\w.]+)", _readme()))
    binaries = set()
    for folder in ("experiments", "experiments/benchmarks"):
      for file in (ROOT / folder).glob("*.py"):
        text = file.read_text()
        if re.search(r"app\.run\(\s*main", text):
          path = file.relative_to(ROOT).with_suffix("")
          binaries.add(".".join(path.parts))
    self.assertEqual(listed, binaries)

  def test_architecture_names_what_is_there(self):
    """The tree of BUILD.md has every package, and no file that is gone."""
    text = (ROOT / "BUILD.md").read_text()
    _, _, tree = text.partition("## The architecture on one page")
    tree = tree.split("```")[1]
    for package in (ROOT / "jaxlook").glob("*/__init__.py"):
      self.assertIn(f"\n  {package.parent.name}/ ", tree)
    shared = tree[tree.index("  common/") : tree.index("  setups/")]
    for line in shared.splitlines()[1:]:
      for name in re.split(r",\s*", line[:27].strip(" ,")):
        files = list((ROOT / "experiments/common").glob(f"{name}.py"))
        self.assertTrue(files, f"BUILD.md: {name}")

  def test_architecture_names_functions_that_are_there(self):
    """In a table row, a name after a file is defined in that file."""
    text = (ROOT / "BUILD.md").read_text()
    checked = 0
    for row in re.findall(r"^\|.*\|$", text, re.MULTILINE):
      source = None
      for code in _code(row):
        if code.endswith(".py"):
          source = (ROOT / code).read_text()
        elif source is not None and code.isidentifier():
          self.assertRegex(source, rf"(?m)^(def|class) {code}\b", row)
          checked += 1
    self.assertGreater(checked, 5)

  def test_readme_is_short(self):
    """Up to its table the README can be read in a few minutes."""
    first, found, _ = _readme().partition(AFTER_TABLE)
    self.assertTrue(found)
    words = [word for word in first.split() if re.search(r"\w", word)]
    self.assertLessEqual(len(words), MOST_WORDS)

  def test_guides_are_in_the_index(self):
    """Every page of the manual can be reached from its index."""
    index = (ROOT / "docs/README.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
      path = page.relative_to(ROOT / "docs").as_posix()
      if path != "README.md":
        self.assertIn(f"({path})", index)

  def test_glossary_is_sorted_and_says_each_term_once(self):
    """A term is found by the alphabet."""
    text = (ROOT / "docs/glossary.md").read_text()
    terms = re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE)
    self.assertGreater(len(terms), 50)
    keys = [re.sub(r"[^a-z0-9]", "", term.lower()) for term in terms]
    self.assertEqual(keys, sorted(keys))
    self.assertLen(set(keys), len(keys))

  def test_examples_of_the_library_guide_run(self):
    """They do what the text and their comments say."""
    text = (ROOT / "docs/guides/library.md").read_text()
    variants, edit, circuits, intervals, own = re.findall(
      r"```python\n(.*?)```", text, re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(variants, names)  # noqa: S102
    losses, gradients = names["losses"], names["gradients"]
    self.assertLen(losses, 3)
    np.testing.assert_allclose(list(losses.values()), losses["causal"], 1e-6)
    for cut in ("myopic/residual", "myopic/kv"):
      moved = jax.tree.map(
        lambda a, b: abs(a - b).max(), gradients["causal"], gradients[cut]
      )
      self.assertGreater(max(jax.tree.leaves(moved)), 1e-4)
    exec(edit, names)  # noqa: S102
    change = abs(names["after"] - names["before"]).max(axis=(0, 2))
    self.assertEqual(change[:3].max(), 0.0)
    self.assertGreater(change[3], 0.0)
    exec(circuits, names)  # noqa: S102
    self.assertEqual(names["copying"].shape, (2, 2))
    self.assertEqual(names["beams"].tokens.shape, (4, 4, 5))
    exec(intervals, names)  # noqa: S102
    self.assertEqual(names["gap"].n, 4)
    self.assertEqual(names["claim"].verdict, "supported")
    exec(own, names)  # noqa: S102
    self.assertFalse(names["variant"].keeps_forward)


def _readme() -> str:
  return (ROOT / "README.md").read_text()


def _is_real(dotted: str) -> bool:
  """Whether a dotted name is a module, or an attribute of one."""
  parts = dotted.split(".")
  for end in range(len(parts), 0, -1):
    name = ".".join(parts[:end])
    try:
      found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
      continue
    if found is None:
      continue
    if parts[0] == "experiments":
      # Two binaries cannot be imported together: both define their flags.
      return end == len(parts)
    member = importlib.import_module(name)
    for part in parts[end:]:
      if not hasattr(member, part):
        return False
      member = getattr(member, part)
    return True
  return False
