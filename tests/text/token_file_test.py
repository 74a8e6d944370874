"""Token files are file by content, and used only if they are whole."""

import gzip
import json
import os
import shutil
import time
from unittest import mock

import numpy as np
from absl.testing import absltest

from jaxlook.text import corpus
from jaxlook.text.tokenizer import load_tokenizer
from tests.fixtures.corpora import SAMPLE, CorpusTestCase, tokenize


class FindTest(CorpusTestCase):
  def test_is_found_by_content(self):
    """A touched, moved or renamed text is not tokenized again."""
    path = self.write("text.txt", SAMPLE)
    first = tokenize(path, self.cache)
    os.utime(path, ns=(0, time.time_ns() + 10**9))
    moved = self.folder / "elsewhere/name.txt"
    moved.parent.mkdir()
    shutil.copy(path, moved)
    with mock.patch.object(corpus, "read_text", side_effect=AssertionError):
      self.assertEqual(tokenize(path, self.cache), first)
      self.assertEqual(tokenize(moved, self.cache), first)

  def test_same_bytes_read_differently_are_another_text(self):
    """Suffix, order of files and separate documents are part of the key."""
    packed = gzip.compress(b"a text")
    tokenize(self.write("one.gz", packed), self.cache)
    with self.assertRaisesRegex(ValueError, "binary|not valid"):
      tokenize(self.write("one.txt", packed), self.cache)
    self.write("ab/1", "a")
    self.write("ab/2", "b")
    self.write("ba/1", "b")
    self.write("ba/2", "a")
    texts = [
      tokenize(self.folder / name, self.cache, documents=separate).tokens()
      for name in ("ab", "ba")
      for separate in (False, True)
    ]
    self.assertEqual(
      [bytes(text) for text in texts], [b"a\n\nb", b"ab", b"b\n\na", b"ba"]
    )

  def test_manifest_names_its_sources(self):
    """It lists each file's size and hash, and the hash of the tokens."""
    path = self.write("text", b"abc")
    file = tokenize(path, self.cache)
    manifest = json.loads(file.path.with_suffix(".json").read_text())
    # sha256sum of abc
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    self.assertEqual(
      manifest["made_of"]["sources"],
      [{"path": str(path), "bytes": 3, "sha256": abc}],
    )
    self.assertEqual(manifest["tokens_sha256"], abc)
    self.assertIsNone(manifest["documents"])

  def test_changed_tokens_are_refused(self):
    """One flipped byte is an error, in one line."""
    path = self.write("text", SAMPLE)
    file = tokenize(path, self.cache)
    data = bytearray(file.path.read_bytes())
    data[5] ^= 1
    file.path.write_bytes(data)
    with self.assertRaisesRegex(
      ValueError, r"tokens: damaged: .* delete the file"
    ) as caught:
      tokenize(path, self.cache)
    self.assertNotIn("\n", str(caught.exception))
    file.path.unlink()
    self.assertEqual(tokenize(path, self.cache), file)
    self.assertEqual(file.tokens().tobytes(), SAMPLE.encode())


class DocumentsTest(CorpusTestCase):
  def setUp(self):
    super().setUp()
    self.write("text/1", "one\n")
    self.write("text/2", "")
    self.write("text/3.gz", gzip.compress("é\n\nthree".encode()))
    self.path = self.folder / "text"

  def test_ends(self):
    """Documents are stored without breaks; the manifest lists their ends."""
    file = tokenize(self.path, self.cache, documents=True)
    self.assertEqual(file.tokens().tobytes().decode(), "one\né\n\nthree")
    self.assertEqual(file.documents, 2)
    self.assertEqual(file.ends().tolist(), [4, 13])
    self.assertEqual((file.length, file.num_bytes), (13, 13))
    self.assertEqual(tokenize(self.path, self.cache, documents=True), file)
    whole = tokenize(self.path, self.cache)
    self.assertEqual(whole.sha256, file.sha256)
    self.assertIsNone(whole.documents)
    self.assertEqual(whole.ends().tolist(), [whole.length])

  def test_a_manifest_with_wrong_ends_is_not_used(self):
    """If the documents do not sum to the length, the file is made again."""
    file = tokenize(self.path, self.cache, documents=True)
    manifest = file.path.with_suffix(".json")
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(fields | {"documents": [4, 8]}))
    again = tokenize(self.path, self.cache, documents=True)
    self.assertEqual(again.ends().tolist(), [4, 13])

  def test_an_empty_text_is_refused(self):
    """Separate documents give the same error, and no file is left."""
    self.write("empty/1", "")
    with self.assertRaisesRegex(ValueError, "empty: the text is empty"):
      tokenize(self.folder / "empty", self.cache, documents=True)
    self.assertEmpty(list(self.cache.iterdir()))

  def test_tokens_do_not_span_documents(self):
    """Each document has the same tokens as alone."""
    tokenizer = load_tokenizer()
    parts = []
    for name in ("1", "3.gz"):
      alone = corpus.tokenize(self.path / name, self.cache, tokenizer)
      parts.append(np.array(alone.tokens()))
    file = tokenize(self.path, self.cache, documents=True)
    np.testing.assert_array_equal(np.concatenate(parts), file.tokens())


if __name__ == "__main__":
  absltest.main()
