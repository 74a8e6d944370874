"""Token files are found by what they hold, and believed if they are whole."""

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
    """Touched, moved or renamed, a text is not read as text again."""
    path = self.write("text.txt", SAMPLE)
    first = tokenize(path, self.cache)
    os.utime(path, ns=(0, time.time_ns() + 10**9))
    moved = self.folder / "elsewhere/name.txt"
    moved.parent.mkdir()
    shutil.copy(path, moved)
    with mock.patch.object(corpus, "read_text", side_effect=AssertionError):
      self.assertEqual(tokenize(path, self.cache), first)
      self.assertEqual(tokenize(moved, self.cache), first)

  def test_same_bytes_that_are_read_otherwise_are_another_text(self):
    """The suffix, the order of files and documents apart are in the key."""
    packed = gzip.compress(b"a text")
    tokenize(self.write("one.gz", packed), self.cache)
    with self.assertRaisesRegex(ValueError, "binary|not valid"):
      tokenize(self.write("one.txt", packed), self.cache)
    self.write("ab/1", "a")
    self.write("ab/2", "b")
    self.write("ba/1", "b")
    self.write("ba/2", "a")
    texts = [
      tokenize(self.folder / name, self.cache, documents=apart).tokens()
      for name in ("ab", "ba")
      for apart in (False, True)
    ]
    self.assertEqual(
      [bytes(text) for text in texts], [b"a\n\nb", b"ab", b"b\n\na", b"ba"]
    )

  def test_manifest_names_its_sources(self):
    """Every file with its size and hash, and the tokens with theirs."""
    path = self.write("text", b"abc")
    found = tokenize(path, self.cache)
    manifest = json.loads(found.path.with_suffix(".json").read_text())
    # sha256sum of abc
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    self.assertEqual(
      manifest["made_of"]["sources"],
      [{"path": str(path), "bytes": 3, "sha256": abc}],
    )
    self.assertEqual(manifest["tokens_sha256"], abc)
    self.assertIsNone(manifest["documents"])

  def test_refuses_other_tokens_than_were_written(self):
    """One flipped byte of the same size is damage, and said in one line."""
    path = self.write("text", SAMPLE)
    found = tokenize(path, self.cache)
    data = bytearray(found.path.read_bytes())
    data[5] ^= 1
    found.path.write_bytes(data)
    with self.assertRaisesRegex(
      ValueError, r"tokens: damaged: .* delete it"
    ) as caught:
      tokenize(path, self.cache)
    self.assertNotIn("\n", str(caught.exception))
    found.path.unlink()
    self.assertEqual(tokenize(path, self.cache), found)
    self.assertEqual(found.tokens().tobytes(), SAMPLE.encode())


class DocumentsTest(CorpusTestCase):
  def setUp(self):
    super().setUp()
    self.write("text/1", "one\n")
    self.write("text/2", "")
    self.write("text/3.gz", gzip.compress("é\n\nthree".encode()))
    self.path = self.folder / "text"

  def test_ends(self):
    """Documents follow without breaks; the manifest says where they end."""
    found = tokenize(self.path, self.cache, documents=True)
    self.assertEqual(found.tokens().tobytes().decode(), "one\né\n\nthree")
    self.assertEqual(found.documents, 2)
    self.assertEqual(found.ends().tolist(), [4, 13])
    self.assertEqual((found.length, found.num_bytes), (13, 13))
    self.assertEqual(tokenize(self.path, self.cache, documents=True), found)
    whole = tokenize(self.path, self.cache)
    self.assertEqual(whole.sha256, found.sha256)
    self.assertIsNone(whole.documents)
    self.assertEqual(whole.ends().tolist(), [whole.length])

  def test_a_manifest_that_does_not_add_up_is_not_believed(self):
    """Ends of documents are as much part of the file as its tokens."""
    found = tokenize(self.path, self.cache, documents=True)
    manifest = found.path.with_suffix(".json")
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(fields | {"documents": [4, 8]}))
    again = tokenize(self.path, self.cache, documents=True)
    self.assertEqual(again.ends().tolist(), [4, 13])

  def test_an_empty_text_has_no_documents(self):
    """Refused as without documents, and nothing is left."""
    self.write("empty/1", "")
    with self.assertRaisesRegex(ValueError, "empty: the text is empty"):
      tokenize(self.folder / "empty", self.cache, documents=True)
    self.assertEmpty(list(self.cache.iterdir()))

  def test_tokens_do_not_cross(self):
    """Every document has the tokens that it has alone."""
    tokenizer = load_tokenizer()
    parts = []
    for name in ("1", "3.gz"):
      alone = corpus.tokenize(self.path / name, self.cache, tokenizer)
      parts.append(np.array(alone.tokens()))
    found = tokenize(self.path, self.cache, documents=True)
    np.testing.assert_array_equal(np.concatenate(parts), found.tokens())


if __name__ == "__main__":
  absltest.main()
