"""What two texts have in common, against a search by hand."""

import random
from unittest import mock

import hypothesis
from absl.testing import absltest
from hypothesis import strategies as st

from jaxlook.text import corpus, overlap
from tests.fixtures.corpora import CorpusTestCase, tokenize

_LETTERS = random.Random(0).choices("abc é漢\n", k=900)
_TEXT = "".join(_LETTERS)


def _by_hand(train: list[str], valid: list[str]) -> float:
  """The fraction by a search for every window in every document."""
  windows = [
    data[start : start + 64]
    for data in map(str.encode, valid)
    for start in range(0, len(data) - 63, 64)
  ]
  documents = [text.encode() for text in train]
  found = [any(each in text for text in documents) for each in windows]
  return sum(found) / len(found) if found else 0.0


class FractionTest(CorpusTestCase):
  def measure(self, train, valid):
    """The fraction of folders of documents."""
    for name, texts in (("train", train), ("valid", valid)):
      for n, text in enumerate(texts):
        self.write(f"{name}/{n}", text)
    return overlap.measure_fraction(
      *(corpus.open_source(self.folder / name) for name in ("train", "valid"))
    )

  @hypothesis.given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 300)), min_size=1),
    st.sampled_from((64, 65, 100, 1 << 18)),
  )
  @hypothesis.settings(max_examples=40, deadline=None)
  def test_windows_by_hand(self, parts, chunk):
    """Windows at every place of the training text, whatever the chunks."""
    valid = [_TEXT, _TEXT[450:], "short", "x" * 64]
    train = [_TEXT[start : start + count] + "x" for start, count in parts]
    for name in ("train", "valid"):
      for old in (self.folder / name).glob("*"):
        old.unlink()
    with mock.patch.object(overlap, "_CHUNK", chunk):
      found = self.measure(train, valid)
    self.assertAlmostEqual(found, _by_hand(train, valid))

  def test_all_or_nothing(self):
    """A text is in itself; one without a window is in nothing."""
    self.assertEqual(self.measure(["a", "b" + _TEXT], [_TEXT]), 1.0)
    self.assertEqual(self.measure([_TEXT], [_TEXT[:20]] * 9 + ["é" * 99]), 0.0)

  def test_the_fraction_is_kept(self):
    """Beside the token files, for the content of both texts."""
    train = self.write("train", _TEXT)
    valid = self.write("valid", _TEXT[300:] + "x" * 640)
    texts = []
    for path in (train, valid):
      texts += [corpus.open_source(path), tokenize(path, self.cache)]
    found = overlap.shared_fraction(*texts, self.cache)
    self.assertBetween(found, 0.4, 0.6)
    with mock.patch.object(overlap, "measure_fraction", None):
      self.assertEqual(overlap.shared_fraction(*texts, self.cache), found)
      self.assertEqual(
        overlap.find_fraction(texts[1], texts[3], self.cache), found
      )
    self.assertIsNone(overlap.find_fraction(texts[3], texts[1], self.cache))
    for file in self.cache.glob("overlap-*"):
      file.write_bytes(b"{")
    self.assertEqual(overlap.shared_fraction(*texts, self.cache), found)


class SharedFilesTest(CorpusTestCase):
  def shared(self, train, valid):
    """The files that two texts share."""
    texts = []
    for path in (train, valid):
      texts += [corpus.open_source(path), tokenize(path, self.cache)]
    return overlap.shared_files(*texts)

  def test_a_copy_or_a_link_has_the_content(self):
    """Other names and places hide nothing; empty files count as nothing."""
    train, valid = self.folder / "train", self.folder / "valid"
    for path in (train, valid):
      self.write(f"{path}/empty", "")
      self.write(f"{path}/own", f"text of {path}")
    self.assertIsNone(self.shared(train, valid))
    copy = self.write("train/copy", "held out")
    held_out = self.write("valid/text.txt", "held out")
    self.assertEqual(self.shared(train, valid), (copy, held_out))
    self.assertEqual(self.shared(train, held_out), (copy, held_out))
    copy.unlink()
    copy.symlink_to(held_out)
    self.assertEqual(self.shared(train, valid), (copy, held_out))

  def test_files_of_an_older_name(self):
    """A token file that was found by content names files by their new paths."""
    train = self.write("train/a", "text")
    tokenize(self.folder / "train", self.cache)
    (self.folder / "train").rename(self.folder / "moved")
    copy = self.write("copy", "text")
    self.assertEqual(
      self.shared(self.folder / "moved", copy),
      (self.folder / "moved" / train.name, copy),
    )


if __name__ == "__main__":
  absltest.main()
