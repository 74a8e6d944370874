"""Bad input to the ablations, refused before anything is compiled."""

import sys
from unittest import mock

from absl.testing import parameterized

from experiments import (
  induction,
  language,
  multiplication,
  precache,
  scaling,
)
from experiments.common import app
from jaxlook.runs import atomic_files
from tests.fixtures import binaries


class RefusalTest(binaries.RefusalTestCase):
  def refuse(self, binary, message, **values):
    """With a cache of tokens of its own."""
    if "cache" in app.read_by(binary.__name__):
      values.setdefault("cache", str(self.root / "cache"))
    super().refuse(binary, message, **values)

  @parameterized.parameters(
    ({"attention": ["horizon:-1"]}, "^--attention: .* an integer >= 0"),
    ({"attention": ["leak:2"]}, r"^--attention: .* a number in \[0, 1\]"),
    ({"attention": ["causal,causal,causal"]}, "^--attention: .* 3 layers"),
    ({"attention": ["teacher"]}, "^--attention: 'teacher' needs a teacher"),
    ({"heads": 3}, "^--heads: must divide width=8, .* not 3"),
    ({"width": 0}, "^--width: must be at least 1"),
    ({"layers": 0}, "^--layers: must be at least 1"),
    ({"steps": 0}, "^--steps: must be at least 1"),
    ({"batch_size": 0}, "^--batch_size: must be at least 1"),
    ({"microbatches": 3}, "^--microbatches: must divide batch_size=8"),
    ({"loss_tokens": 8}, "^--loss_tokens: has no effect on this binary"),
    ({"mesh": "two"}, "^--mesh: must be like seed:2,data:2"),
    ({"mesh": "data:99"}, "^--mesh: must use at most .* here, not 99"),
    (
      {"launcher": "ray", "launcher_resources": "one"},
      "^--launcher_resources: resources must be like cpu:1",
    ),
    ({"length": 0}, "^--length: must be at least 1"),
    ({"terms": 0}, "^--terms: must lie in 1..7"),
    ({"frequency": -1.0}, "^--frequency: must be positive"),
    ({"frequency": float("inf")}, "^--frequency: must be positive"),
    ({"p": ["1.5"]}, r"^--p: must lie in \[0, 1\]"),
    ({"p": ["often"]}, "^--p: must be numbers, not 'often'"),
    ({"p": []}, "^--p: must be at least one probability"),
    ({"out": "/dev/null/run"}, "^--out: .* is a file or lies in one"),
    ({"out": "/proc/run"}, "^--out: cannot write"),
  )
  def test_precache(self, values, message):
    """Each bad value is one line that names its flag."""
    self.refuse(precache, message, **values)

  def test_a_launcher_that_is_not_installed(self):
    """Without the extra the launcher is refused with what to install."""
    with mock.patch.dict(sys.modules, {"ray": None}):
      self.refuse(precache, r"^--launcher: .*jaxlook\[cluster", launcher="ray")

  def test_another_config_in_out(self):
    """A run folder of another config is not overwritten."""
    atomic_files.write_json(self.root / "config.json", {"experiment": "other"})
    self.refuse(precache, "^--out: .* another config", out=str(self.root))

  @parameterized.parameters(
    (None, "^--corpus: .*text"),
    (b"", "^--corpus: .*empty"),
    (b"\x00\x01\xff" * 99, "^--corpus: .*(binary|UTF-8)"),
    (b"too short", "^--corpus: .*(short|windows|tokens)"),
  )
  def test_language_corpus(self, content, message):
    """Missing, empty, binary and too short text is refused by its flag."""
    corpus = self.root / "text"
    if content is not None:
      corpus.write_bytes(content)
    self.refuse(language, message, corpus=str(corpus))

  def test_language_other_files(self):
    """The other files of the flags are blamed on their own flags."""
    corpus = self.root / "text"
    corpus.write_bytes(b"some words to read\n" * 999)
    good = {"corpus": str(corpus)}
    self.refuse(language, "^--valid: ", valid=["/nowhere"], **good)
    self.refuse(
      language, "^--valid: .* share files", valid=[str(corpus)], **good
    )
    short = self.root / "short"
    short.write_bytes(b"short")
    self.refuse(language, "^--valid: .* short", valid=[str(short)], **good)
    self.refuse(language, "^--corpus: is empty", corpus="")
    self.refuse(language, "^--cache: ", cache="/dev/null/cache", **good)
    self.refuse(language, "^--length: ", length=0, **good)
    few = "^--loss_tokens: must be at least 1"
    self.refuse(language, few, loss_tokens=0, **good)
    self.refuse(language, "^--corpus: is required", preset="paper")
    self.refuse(language, "^--tokenizer: ", tokenizer="/nowhere", **good)
    self.refuse(
      language,
      "^--tokenizer: must be above 256 for a BPE, not 9",
      tokenizer="bpe:9",
      **good,
    )
    self.refuse(language, "^--heads: ", heads=3, **good)
    self.refuse(language, "^--valid: needs --corpus", valid=["x"])
    self.refuse(
      language, "^--model_size: must be one", model_size=["3M", "11M"]
    )

  @parameterized.parameters(
    ({"model_size": ["3M"]}, "^--model_size: needs two different values"),
    ({"model_size": ["3M", "9M"]}, "^--model_size: .* one of .*, not '9M'"),
    ({"model_size": ["3M", "3M"]}, "^--model_size: has a name twice: 3M, 3M"),
    ({"layers": 2}, "^--layers: has no effect on this binary; see --help$"),
    ({"attention": ["myopic"]}, "^--attention: has no effect on this binary"),
    ({"data_steps": ["5"]}, "^--data_steps: needs two different values"),
    ({"data_steps": ["5", "5"]}, "^--data_steps: needs two different values"),
    ({"data_steps": ["5", "0"]}, "^--data_steps: must be at least 1"),
    (
      {"data_steps": ["5", "x"]},
      "^--data_steps: must be whole numbers, not '5,x'",
    ),
    (
      {"data_steps": ["1", "2"], "steps": 2},
      "^--steps: cannot be combined with --data_steps",
    ),
    (
      {"data_steps": ["1", "2"], "model_size": ["3M", "11M"]},
      "^--data_steps: needs one model size, not 2",
    ),
    ({"learning_rate": 0.0}, "^--learning_rate: must be posit"),
    ({"valid": ["x", "y"], "corpus": "z"}, "^--valid: must be one text, not 2"),
  )
  def test_scaling(self, values, message):
    """Before any text is read."""
    self.refuse(scaling, message, **values)

  @parameterized.parameters(
    ({"layers": 1}, "^--layers: must be at least 2, not 1; the control"),
    ({"length": 9}, "^--length: must be at least 10"),
    ({"heads": 3}, "^--heads: must divide width=16, .* not 3"),
  )
  def test_induction(self, values, message):
    """The control has one layer; a sequence holds two segments."""
    self.refuse(induction, message, **values)

  @parameterized.parameters(
    ({"length": 9}, "^--length: has no effect on this binary"),
    ({"pad": [4]}, "^--pad: must be two or more rising values, not"),
    ({"pad": [4, 0]}, "^--pad: must be two or more rising values, not"),
    ({"digits": 0}, "^--digits: must be at least 1"),
    ({"digits": 3}, "^--pad: must be 0 or at least 3"),
    ({"layers": 1}, "^--layers: must be at least 2, not 1"),
    ({"attention": ["window:2"]}, "^--attention: 'window:2' changes the forw"),
    ({"attention": ["self_only,myopic"]}, "^--attention: 'self_only,my.* cha"),
    ({"heads": 3}, "^--heads: must divide width=16, .* not 3"),
    ({"attention": ["teacher"]}, "^--attention: 'teacher' needs a teacher"),
  )
  def test_multiplication(self, values, message):
    """Paddings are compared, and hold the numbers."""
    self.refuse(multiplication, message, **values)
