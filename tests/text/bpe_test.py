"""A trained tokenizer encodes its text, and is found in the cache."""

import gzip
import re
from unittest import mock

from absl.testing import absltest, parameterized

from jaxlook.text import bpe, corpus, tokenizer
from tests.fixtures.corpora import SAMPLE, CorpusTestCase

_TEXT = SAMPLE * 20


class BpeTest(CorpusTestCase):
  def test_encodes_the_text_with_fewer_tokens(self):
    """The tokens' texts, joined, are the text; merges make it shorter."""
    path = self.write("text", _TEXT)
    trained = bpe.train_bpe(path, self.cache, 290)
    self.assertEqual((trained.name, trained.vocab_size), ("bpe:290", 290))
    file = corpus.tokenize(path, self.cache, trained)
    ids = file.tokens().tolist()
    self.assertLess(len(ids), 0.7 * len(_TEXT.encode()))
    shown = trained.show(ids)
    self.assertIn(" sh", "".join(shown))
    # A token may begin or end inside a character.
    spelled = re.sub(
      rb"<([0-9A-F]{2})>",
      lambda match: bytes([int(match.group(1), 16)]),
      "".join(shown).encode(),
    )
    self.assertEqual(spelled, _TEXT.encode())

  def test_is_trained_only_once(self):
    """It is found by its text, or without the text by name and hash."""
    path = self.write("text", _TEXT)
    trained = bpe.train_bpe(path, self.cache, 290)
    other = bpe.train_bpe(path, self.cache, 280)
    self.assertNotEqual(other.sha256, trained.sha256)
    with mock.patch.object(bpe, "split_pieces", side_effect=AssertionError):
      again = bpe.train_bpe(path, self.cache, 290)
    path.unlink()
    found = bpe.find_bpe(self.cache, "bpe:290", trained.sha256)
    for each in (again, found):
      self.assertEqual(each.sha256, trained.sha256)
      self.assertEqual(each.name, "bpe:290")
    with self.assertRaisesRegex(FileNotFoundError, "no bpe:290 tokenizer with"):
      bpe.find_bpe(self.cache, "bpe:290", other.sha256)

  def test_compression_does_not_matter(self):
    """A compressed text trains the same tokenizer as the plain text."""
    plain = bpe.train_bpe(self.write("text", _TEXT), self.cache, 280)
    packed = self.folder / "text.gz"
    packed.write_bytes(gzip.compress(_TEXT.encode()))
    self.assertEqual(
      bpe.train_bpe(packed, self.cache, 280).sha256, plain.sha256
    )

  def test_a_small_vocabulary_is_refused(self):
    """The vocabulary needs all bytes and at least one merge."""
    with self.assertRaisesRegex(ValueError, "vocab_size .* above 256 .* 256"):
      bpe.train_bpe(self.write("text", _TEXT), self.cache, 256)

  @parameterized.parameters(99_999_999_999, 10**30)
  def test_a_vocabulary_that_no_machine_holds(self, size):
    """The package would end the process."""
    with self.assertRaisesRegex(ValueError, "^vocab_size is too large: .* GiB"):
      bpe.train_bpe(self.write("text", _TEXT), self.cache, size)

  def test_names(self):
    """N is a whole number in digits."""
    self.assertEqual(bpe.bpe_size("bpe:300"), 300)
    for name in ("bytes", "bpe", "a/bpe:3", "/bpe:300"):
      self.assertIsNone(bpe.bpe_size(name))
    for name in ("bpe:", "bpe:٣٠٠", "bpe:1_000", "bpe:+300", "bpe:3.5"):
      with self.assertRaisesRegex(ValueError, "N, which must be a whole num"):
        bpe.bpe_size(name)


class ShowTest(CorpusTestCase):
  def test_bytes(self):
    """A byte is shown as its character, or by number if it is only a part."""
    shown = tokenizer.load_tokenizer().show(list("a\né".encode()))
    self.assertEqual(shown, ["a", "\n", "<C3>", "<A9>"])


if __name__ == "__main__":
  absltest.main()
