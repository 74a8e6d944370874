"""Tokens are the same for every number of processes."""

import tracemalloc
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from unittest import mock

import numpy as np
from absl.testing import absltest

from jaxlook.text import bpe, corpus
from jaxlook.text import encode as encoding
from jaxlook.text.tokenizer import load_tokenizer
from tests.fixtures.corpora import SAMPLE, CorpusTestCase


class EncodeTest(CorpusTestCase):
  def setUp(self):
    super().setUp()
    text = SAMPLE * 20
    self.tokenizer = bpe.train_bpe(self.write("text", text), self.cache, 290)
    # Small batches make many of them.
    self.enter_context(mock.patch.object(encoding, "_BATCH", 100))

  def encode_all(self, documents, workers):
    """Returns all tokens, and the ends of documents."""
    ids, ends, length = [], [], 0
    for batch in encoding.encode(
      documents, self.tokenizer, np.dtype(np.uint16), workers
    ):
      ends += [length + end for end in batch.ends]
      length += len(batch.ids)
      ids.append(batch.ids)
    return np.concatenate(ids), ends

  def test_workers_change_nothing(self):
    """Two processes give the same tokens and ends as one."""
    documents = [SAMPLE * 5, "a", SAMPLE, "\n\n b\n"] * 3
    cut = [[text[:7], text[7:]] for text in documents]
    one_worker, ends = self.encode_all(cut, 1)
    two_workers, same = self.encode_all(cut, 2)
    np.testing.assert_array_equal(two_workers, one_worker)
    self.assertEqual(same, ends)
    self.assertEqual(two_workers.dtype, np.uint16)
    lengths = [
      sum(map(len, self.tokenizer.encode([text]))) for text in documents
    ]
    self.assertEqual(ends, np.cumsum(lengths).tolist())

  def test_only_large_texts_use_several_processes(self):
    """A large text uses `workers` processes, a small text one."""
    path = self.write("text", SAMPLE * 20)
    used = []
    real = encoding.encode

    def encode(documents, tokenizer, dtype, workers):
      used.append(workers)
      return real(documents, tokenizer, dtype, 1)

    with mock.patch.object(encoding, "encode", encode):
      corpus.tokenize(path, self.cache, self.tokenizer, workers=3)
      with mock.patch.object(corpus, "_LARGE_TEXT_BYTES", 0):
        corpus.tokenize(path, self.cache / "other", self.tokenizer, workers=3)
    self.assertEqual(used, [1, 3])
    with self.assertRaisesRegex(ValueError, "workers must lie in 1..4096, not"):
      corpus.tokenize(path, self.cache, self.tokenizer, workers=0)

  def test_a_killed_process_is_an_error(self):
    """The text is not truncated silently."""
    lost = Future()
    lost.set_exception(BrokenProcessPool("a process\nwas terminated"))
    with mock.patch.object(encoding, "ProcessPoolExecutor") as pool:
      pool.return_value.submit.return_value = lost
      with self.assertRaisesRegex(
        ValueError, "^workers must be below 2, .* killed$"
      ):
        self.encode_all([["text"]], 2)
      pool.return_value.shutdown.assert_called_once_with(cancel_futures=True)

  def test_a_long_text_needs_little_memory(self):
    """The text is read only as fast as its tokens are used."""
    tracemalloc.start()
    total = 0
    with mock.patch.object(encoding, "_BATCH", 1 << 16):
      for batch in encoding.encode(
        [("word\n" * 1000 for _ in range(2000))],
        load_tokenizer(),
        np.dtype(np.uint8),
      ):
        total += len(batch.ids)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    self.assertEqual(total, 10_000_000)
    self.assertLess(peak, 1 << 20)


if __name__ == "__main__":
  absltest.main()
