"""Text as the flags set it up: documents apart, and what identifies it."""

import contextlib
import io
import os
import pathlib
import random
import shutil
import sys
import tempfile
import types
from typing import Any, cast
from unittest import mock

# The text task imports it late: its flags would go when saved ones come back.
import grain  # noqa: F401
import numpy as np
from absl.testing import flagsaver

from experiments.common import app, text_corpus, text_setup
from jaxlook import machine
from tests.fixtures import base


class ReadingTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.corpus = self.root / "text"
    self.corpus.mkdir()
    for letter in "abcdef":
      (self.corpus / letter).write_text(letter * 100)

  def read(self, kept=False, **values):
    """The text of the smoke preset under flags."""
    values = {
      "corpus": str(self.corpus),
      "cache": str(self.root / "cache"),
    } | values
    with flagsaver.flagsaver(**values):
      return text_corpus.read_text(16, 8, documents=kept)

  def test_without_a_home_there_is_no_cache(self):
    """The folder is refused, and none named ~ is made."""
    with (
      contextlib.chdir(self.root),
      mock.patch.dict(os.environ),
      mock.patch("pwd.getpwuid", side_effect=KeyError),
    ):
      del os.environ["HOME"]
      with self.assertRaisesRegex(
        app.UsageError, "^--cache: ~/.cache/jaxlook needs a home .*set HOME"
      ):
        self.read(cache=None)
      self.assertFalse(pathlib.Path("~").exists())

  def test_names_of_any_bytes_can_be_reported(self):
    """What is not UTF-8 is replaced."""
    with flagsaver.flagsaver(corpus="/a/caf\udce9"):
      self.assertEqual(text_corpus.name(), "caf\ufffd")

  def test_the_flag_that_a_tokenizer_is_from_is_blamed(self):
    """A model's folder without one, unless --tokenizer names another."""
    for tokenizer, message in (
      (None, "^--model: broken; --tokenizer can name another$"),
      ("bytes", "^--tokenizer: broken$"),
    ):
      with (
        flagsaver.flagsaver(tokenizer=tokenizer),
        self.assertRaisesRegex(app.UsageError, message),
        text_corpus.blaming_tokenizer("model"),
      ):
        raise ValueError("broken")

  def test_documents_are_kept_apart_when_asked(self):
    """By the flag, or because the models at hand were trained so."""
    for found in (self.read(True), self.read(documents=True)):
      windows = found.windows(0, range(2), 8).reshape(-1, 17)
      self.assertEqual(np.ptp(windows, axis=1).max(), 0)
      self.assertTrue(text_corpus.about(found)["documents"])
    joined = self.read()
    self.assertNotIn("documents", text_corpus.about(joined))
    # All but two of 34 windows, of which five cross a break.
    every = joined.windows(0, range(4), 8).reshape(-1, 17)
    self.assertGreater(np.ptp(every, axis=1).max(), 0)

  def test_counts_stop_at_the_ends_of_documents(self):
    """Each document repeats a letter, so the last one tells the next."""
    losses = {}
    for apart in (True, False):
      found = self.read(apart)
      problem = types.SimpleNamespace(
        held_out=found.windows(0, range(2), 8),
        score=lambda loss: {"loss": loss},
      )
      counts = text_setup.baselines(text_setup.count(found), cast(Any, problem))
      losses[apart] = counts["bigram counts"]["loss"]
    self.assertLess(losses[True], 0.01)
    self.assertGreater(losses[False], 0.04)

  def test_counts_that_do_not_fit_into_memory_are_left_out(self):
    """Those of single tokens and pairs remain, with the same numbers."""
    found = self.read()
    every = text_setup.count(found)
    with mock.patch.object(machine, "host_bytes", return_value=1 << 10):
      few = text_setup.count(found)
    self.assertEqual([*few], ["unigram counts", "bigram counts"])
    self.assertEqual([*every][2:], [f"{n}-gram counts" for n in (3, 4, 5)])
    windows = found.windows(0, range(2), 8)
    for name, nats in few.items():
      np.testing.assert_array_equal(nats(windows), every[name](windows))

  def test_a_held_out_text_inside_the_training_text(self):
    """A copy or a link is refused; a text that is half copied is reported."""
    words = random.Random(0)
    text = "".join(words.choices("abcdef \n", k=4000))
    held_out = self.root / "held_out"
    held_out.write_text(text)
    inside = self.corpus / "other"
    valid = {"valid": [str(held_out)]}
    for make in (shutil.copy, os.symlink, os.link):
      make(held_out, inside)
      with self.assertRaisesRegex(
        app.UsageError, f"^--valid: .* {held_out} has the content of {inside}$"
      ):
        self.read(**valid)
      inside.unlink()
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      apart = self.read(**valid)
    self.assertEqual(said.getvalue(), "")
    with flagsaver.flagsaver(cache=str(self.root / "cache")):
      self.assertEqual(text_corpus.shared_part(apart), "")
    inside.write_text(f"start {text[:2000]}")
    for _ in range(2):
      said = io.StringIO()
      with contextlib.redirect_stderr(said):
        found = self.read(**valid)
      self.assertRegex(
        said.getvalue(),
        r"^warning: --valid: 50\.0% of .*held_out also occurs in --corpus.*\n$",
      )
      with flagsaver.flagsaver(cache=str(self.root / "cache")):
        setup = text_setup.setup(text_setup.PRESETS["smoke"], found)
      self.assertIn("(50.0% of the held-out text also occurs in it)", setup)

  def test_a_data_set_without_the_package(self):
    """One line that names the flag and the extra."""
    with mock.patch.dict(sys.modules, datasets=None):
      with self.assertRaisesRegex(
        app.UsageError, r"^--corpus: datasets:a/b needs datasets: pip install"
      ):
        self.read(corpus="datasets:a/b")
