"""Text as the flags set it up: documents apart, and what identifies it."""

import pathlib
import sys
import tempfile
import types
from typing import Any, cast
from unittest import mock

# The text task imports it late: its flags would go when saved ones come back.
import grain  # noqa: F401
import numpy as np
from absl import flags
from absl.testing import flagsaver

from experiments.common import app, text_corpus, text_setup
from tests.fixtures import base


class ReadingTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.corpus = self.root / "text"
    self.corpus.mkdir()
    for letter in "abcdef":
      (self.corpus / letter).write_text(letter * 100)
    if not flags.FLAGS.is_parsed():
      flags.FLAGS(sys.argv[:1])

  def read(self, kept=False, **values):
    """The text of the smoke preset under flags."""
    values = {
      "corpus": str(self.corpus),
      "cache": str(self.root / "cache"),
    } | values
    with flagsaver.flagsaver(**values):
      return text_corpus.read_text(16, 8, documents=kept)

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
      counts = text_setup.baselines(found, cast(Any, problem))
      losses[apart] = counts["bigram counts"]["loss"]
    self.assertLess(losses[True], 0.01)
    self.assertGreater(losses[False], 0.04)

  def test_a_data_set_without_the_package(self):
    """One line that names the flag and the extra."""
    with mock.patch.dict(sys.modules, datasets=None):
      with self.assertRaisesRegex(
        app.UsageError, r"^--corpus: datasets:a/b needs datasets: pip install"
      ):
        self.read(corpus="datasets:a/b")
