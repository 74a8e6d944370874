"""What the microscope binary refuses, and what it chooses by itself."""

import json

from absl.testing import absltest, flagsaver, parameterized

from experiments.common import app
from experiments.setups import microscope_setup
from tests.fixtures import base
from tests.fixtures.microscope_pages import TEXT, look, root, write_run


class MicroscopeTest(base.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root, cls.run_folder = root(), root() / "run"

  def refuse(self, message, **values):
    """One line that names the flag, and no page."""
    values.setdefault("model", str(self.run_folder))
    with self.assertRaises(app.UsageError) as caught:
      look(self.root, out=str(self.root / "refused" / "page.html"), **values)
    self.assertRegex(str(caught.exception), message)
    self.assertLen(str(caught.exception).splitlines(), 1)
    self.assertFalse((self.root / "refused").exists())

  @parameterized.parameters(
    ({"text": ""}, "^--text: has 0 tokens; the model reads 2 to 40"),
    ({"text": 41 * "a"}, "^--text: has 41 tokens; the model reads 2 to 40"),
    ({"text": "a\udcff"}, "^--text: is not Unicode"),
    ({"text": None}, "^--text: must be given, or --text_file"),
    ({"text_file": "x"}, "^--text: .* not both"),
    ({"text": None, "text_file": "/nowhere"}, "^--text_file: .*No such file"),
    ({"attention": ["self_only"]}, "^--attention: .* has no 'self_only'"),
    ({"attention": ["what"]}, "^--attention: .*what"),
    ({"attention": ["causal", "causal"]}, "^--attention: .*different"),
    ({"seed": 1}, r"^--seed: must be one of \[0, 2\], not 1"),
    ({"step": 7}, "^--step: "),
    ({"tokenizer": "/nowhere"}, "^--tokenizer: "),
    ({"model": None}, "^--model: is required"),
    ({"model": "/nowhere"}, "^--model: /nowhere"),
  )
  def test_refusals(self, values, message):
    """Bad values are blamed on their flags before anything is written."""
    self.refuse(message, **values)

  def test_a_file_of_text_and_a_folder_for_the_page(self):
    """The page is in the folder, and holds the text of the file."""
    file = self.root / "text"
    text = TEXT.replace(" ", "\r\n", 1) + "\r"
    file.write_bytes(text.encode())
    out = self.root / "pages"
    values = {"text": None, "text_file": str(file), "out": str(out)}
    said = look(self.root, model=str(self.run_folder), **values)
    self.assertIn(f"wrote {out / 'microscope.html'}", said)
    written = (out / "microscope.html").read_text("utf-8")
    self.assertIn(json.dumps(text).replace("<", "\\u003c"), written)

  @parameterized.parameters(
    (None, ["causal", "myopic/kv"]),
    (["myopic"], ["myopic/kv"]),
    (["myopic", "causal"], ["myopic/kv", "causal"]),
  )
  def test_arms(self, asked, expected):
    """One arm or two, in the order asked for, without seeds that diverged."""
    with flagsaver.flagsaver(attention=asked):
      found, tokenizer, trained = microscope_setup.read(self.run_folder)
    self.assertEqual([each.name for each in found], expected)
    seeds = {each.name: each.seeds for each in found}
    self.assertEqual(seeds["myopic/kv"], (0, 2))
    self.assertEqual(tokenizer.name, "bytes")
    self.assertIn("after 1 step of", trained)

  def test_out_must_be_writable(self):
    """A path that no file can have is refused."""
    with self.assertRaisesRegex(app.UsageError, "^--out: "):
      look(self.root, model=str(self.run_folder), out="/dev/null/page.html")

  def test_a_run_that_is_not_on_text(self):
    """An arm without a tokenizer has no tokens to show."""
    write_run(self.root / "sines", {"terms": 4})
    self.refuse(
      "^--model: .*sines is not a run on text", model=str(self.root / "sines")
    )


if __name__ == "__main__":
  absltest.main()
