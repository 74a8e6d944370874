"""Sizes by name and from folders, as flags say."""

import pathlib

# The text task imports it late: its flags would go when saved ones come back.
import grain  # noqa: F401
import numpy as np
from absl.testing import flagsaver

from experiments import language, scaling
from experiments.common import model_sizes, text_setup
from experiments.setups import scaling_setup
from jaxlook.models import huggingface, named_shape
from jaxlook.training import Start
from tests.fixtures import binaries
from tests.fixtures.hf_folders import folder

CONFIG = text_setup.PRESETS["smoke"]


class SizingTest(binaries.RefusalTestCase):
  def _flags(self, **values):
    cache = str(self.root / "cache")
    values = {"preset": "smoke", "cache": cache} | values
    self.enterContext(flagsaver.flagsaver(**values))

  def _corpus(self) -> str:
    path = self.root / "corpus.txt"
    path.write_text("the thing that they thought of, then\n" * 200)
    return str(path)

  def test_named_sizes_share_the_text(self):
    """Ascending, in the text's tokens and windows, the same windows fed."""
    self._flags(model_size=["3.3k", "0.9k"], corpus=self._corpus())
    sizes = model_sizes.chosen()
    found = scaling_setup.points(
      CONFIG, model_sizes.read_text(CONFIG, sizes), sizes
    )
    self.assertEqual(found.axis, scaling_setup.PARAMETERS)
    self.assertEqual(list(found.x.items()), [("0.9k", 888), ("3.3k", 3312)])
    small, large = found.problems
    self.assertEqual(
      small.model, named_shape("0.9k", vocab_size=256, max_length=16)
    )
    asked = (range(2), (0, 1), range(8))
    np.testing.assert_array_equal(large.feed(*asked), small.feed(*asked))

  def test_lengths_of_training_are_amounts_of_data(self):
    """One size; x counts the tokens of all steps."""
    self._flags(
      model_size=["0.9k"], data_steps=["6", "3"], corpus=self._corpus()
    )
    sizes = model_sizes.chosen()
    text = model_sizes.read_text(CONFIG, sizes)
    found = scaling_setup.points(CONFIG, text, sizes)
    self.assertEqual(found.x, {"3 steps": 3 * 8 * 16, "6 steps": 6 * 8 * 16})
    self.assertEqual([p.train.steps for p in found.problems], [3, 6])
    self.assertIn(
      "0.9k (1 layer,", scaling_setup.study(CONFIG, text, found).setup
    )

  def test_folders_are_fine_tuned_in_their_own_tokens(self):
    """Their weights, shape and positions; the tokenizer comes with them."""
    folders = [
      folder(self.root / name, 8 * n) for n, name in ((2, "b"), (1, "a"))
    ]
    self._flags(**{"from": folders}, learning_rate=2e-4, corpus=self._corpus())
    sizes = model_sizes.chosen(("0.9k",))
    self.assertEqual([size.name for size in sizes], ["b", "a"])
    text = model_sizes.read_text(CONFIG, sizes)
    self.assertEqual(text.vocab_size, 257)
    small, large = scaling_setup.points(CONFIG, text, sizes).problems
    self.assertEqual((small.setting, large.setting), ("a", "b"))
    self.assertEqual(small.model, huggingface.load(folders[1]).config)
    self.assertEqual(small.train.learning_rate, 2e-4)
    self.assert_close(
      small.start.params, huggingface.load(folders[1]).params, atol=0.0
    )
    self.assertNotEqual(small.start.about, large.start.about)

  def test_the_published_rate_is_taken_where_it_is_known(self):
    """0.4 times the pretraining's of the same shape."""
    self._flags()
    shape = named_shape("pythia-160m")
    size = model_sizes.Size("x", shape, pathlib.Path("x"), Start({}, {}))
    found = model_sizes.fitted(CONFIG, size)
    self.assertAlmostEqual(found.train.learning_rate, 0.4 * 6e-4)
    self.assertEqual((found.layers, found.train.warmup_fraction), (12, 0.05))

  def test_refusals_of_folders(self):
    """Each in one line that names the flag."""
    one = folder(self.root / "one")
    two = folder(self.root / "two", 16)
    other = pathlib.Path(two) / "tokenizer.json"
    corpus = self._corpus()
    bad = self.root / "bad"
    bad.mkdir()
    cases = (
      (language, {"from": ["/nowhere"]}, "^--from: /nowhere is not a folder"),
      (language, {"from": [str(bad)]}, "^--from: .*config.json is missing"),
      (language, {"from": [one]}, "^--learning_rate: must be given: .* of one"),
      (language, {"from": [one, two]}, "^--from: must be one model, not 2"),
      (language, {"from": [one], "model_size": ["3.3k"]}, "^--model_size: can"),
      (language, {"from": [one], "width": 8}, "^--width: cannot be combined"),
      (
        language,
        {"from": [one], "learning_rate": 1e-3, "length": 21},
        "^--length: must be at most 20 for one, not 21",
      ),
      (scaling, {"from": [one, one]}, "^--from: has a name twice: one, one"),
      (scaling, {"from": [one], "learning_rate": 1e-3}, "^--from: needs two"),
    )
    for binary, values, message in cases:
      self.refuse(binary, message, corpus=corpus, **values)
    other.write_text(other.read_text() + "\n")
    self.refuse(scaling, "^--from: .* different", **{"from": [one, two]})
    other.unlink()
    self.refuse(
      language,
      "^--from: .* has neither tokenizer.json .*; --tokenizer can name",
      **{"from": [two]},
    )
