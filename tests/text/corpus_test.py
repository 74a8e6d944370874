"""Tests of reading text and of token files."""

import concurrent.futures
import dataclasses
import gzip
import json
import lzma
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from unittest import mock

import hypothesis
import numpy as np
from absl.testing import parameterized
from hypothesis import strategies as st

from jaxlook.runs.atomic_files import TEMPORARY_SUFFIX
from jaxlook.text import corpus, tokenizer
from jaxlook.text.tokenizer import load_tokenizer
from tests.fixtures.corpora import SAMPLE, TEXTS, CorpusTestCase, tokenize

_GPT2 = pathlib.Path(__file__).parents[3] / "shared/data/gpt2-bpe"


class ReadTextTest(CorpusTestCase):
  @parameterized.parameters(
    ("a.txt", bytes), (".GZ", gzip.compress), ("a.xz", lzma.compress)
  )
  def test_reads_plain_and_compressed(self, suffix, compress):
    """The suffix decides what is decompressed; line ends stay as they are."""
    path = self.write("text" + suffix, compress(SAMPLE.encode()))
    self.assertEqual("".join(corpus.read_text(path)), SAMPLE)

  def test_folder_is_read_in_order_with_breaks(self):
    """Files of all kinds follow by relative name; hidden, empty ones do not."""
    self.write("c/b/1.txt", "two")
    self.write("c/b.txt.gz", gzip.compress(b"one"))
    self.write("c/d.xz", lzma.compress(b"three"))
    self.write("c/empty.txt", "")
    self.write("c/.hidden", b"\0")
    self.write("c/.git/object", b"\0")
    self.assertEqual(
      "".join(corpus.read_text(self.folder / "c")), "one\n\ntwo\n\nthree"
    )

  @hypothesis.given(TEXTS, st.integers(1, 8))
  @hypothesis.settings(max_examples=50, deadline=None)
  def test_chunk_size_does_not_matter(self, text, chunk_bytes):
    """Characters survive chunk borders that fall within them."""
    path = self.write("text", text)
    parts = list(corpus.read_text(path, chunk_bytes=chunk_bytes))
    self.assertEqual("".join(parts), text)
    self.assertLessEqual(max(len(p.encode()) for p in parts), chunk_bytes + 3)

  @parameterized.named_parameters(
    ("empty", "a.txt", b"", "a.txt: the text is empty"),
    ("empty_gz", "a.gz", gzip.compress(b""), "a.gz: the text is empty"),
    ("nul", "a.txt", b"text\0text", "a.txt: binary"),
    ("utf16", "a.txt", "text".encode("utf-16"), "binary|not valid"),
    ("latin1", "a.txt", b"caf\xe9 au lait", "a.txt: not valid UTF-8 at byte 3"),
    ("cut_char", "a.txt", "12é".encode()[:-1], "not valid UTF-8 at byte 2"),
    ("late", "a.txt", "é".encode() * 50 + b"\xff", "UTF-8 at byte 100$"),
    (
      "gz_as_text",
      "a.txt",
      gzip.compress(b"text"),
      "a.txt: (binary|not valid)",
    ),
    ("text_as_gz", "a.gz", b"text", "a.gz: corrupt or truncated"),
    ("text_as_xz", "a.xz", b"text", "a.xz: corrupt or truncated"),
    ("cut_gz", "a.gz", gzip.compress(b"text")[:-9], "corrupt or truncated"),
    ("cut_xz", "a.xz", lzma.compress(b"text" * 99)[:-9], "corrupt or trunc"),
    ("bad_gz", "a.gz", gzip.compress(b"text")[:-8] + bytes(8), "corrupt or tr"),
    (
      "bad_deflate",
      "a.gz",
      gzip.compress(b"text")[:10] + b"\xff" * 9,
      "corrup",
    ),
    ("in_folder", "folder/a.txt", b"\xff", "folder/a.txt: not valid UTF-8"),
  )
  def test_refuses_what_is_no_text(self, name, data, message):
    """The error names the file, whatever the chunk size, in one line."""
    self.write(name, data)
    for chunk_bytes in (1, 7, 1 << 20):
      with self.assertRaisesRegex(ValueError, message) as caught:
        path = self.folder / name.split("/")[0]
        list(corpus.read_text(path, chunk_bytes=chunk_bytes))
      self.assertIn(str(self.folder / name), str(caught.exception))
      self.assertNotIn("\n", str(caught.exception))

  def test_refuses_missing_paths(self):
    """A path, a path below a file, and a dangling link are all missing."""
    self.write("file", "text")
    (self.folder / "links").mkdir()
    (self.folder / "links/broken").symlink_to("nowhere")
    for name in ("absent", "file/below", "links"):
      with self.assertRaisesRegex(FileNotFoundError, f"{name}.*: no such file"):
        list(corpus.read_text(self.folder / name))

  def test_refuses_what_cannot_be_read(self):
    """Folders without files, pipes, looping links, files without permission."""
    self.write("folder/.hidden", "text")
    with self.assertRaisesRegex(ValueError, "folder: the folder holds no file"):
      list(corpus.read_text(self.folder / "folder"))
    os.mkfifo(self.folder / "pipe")
    with self.assertRaisesRegex(ValueError, "pipe: neither a file nor a folde"):
      list(corpus.read_text(self.folder / "pipe"))
    (self.folder / "loop").symlink_to("loop")
    with self.assertRaisesRegex(ValueError, "loop: cannot be read: Too many"):
      list(corpus.read_text(self.folder / "loop"))
    path = self.write("locked.txt", "text")
    # As root a file without permissions can still be read.
    opener = mock.Mock(side_effect=PermissionError(13, "Permission denied"))
    with mock.patch.dict(corpus._OPENERS, {".txt": opener}):
      with self.assertRaisesRegex(ValueError, "txt: cannot be read: Permissi"):
        list(corpus.read_text(path))
    scan = PermissionError(13, "Permission denied", str(self.folder))
    with mock.patch("os.scandir", side_effect=scan):
      with self.assertRaisesRegex(ValueError, ": cannot be read: Permission"):
        list(corpus.read_text(self.folder))

  def test_a_big_file_needs_little_memory(self):
    """8 MB in one line are cut into pieces within 1 MB."""
    path = self.write("big.gz", gzip.compress(b"word " * 1_600_000, 1))
    tracemalloc.start()
    total = 0
    texts = corpus.read_text(path, chunk_bytes=1 << 16)
    for pieces in tokenizer.split_pieces(texts):
      total += sum(map(len, pieces))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    self.assertEqual(total, 8_000_000)
    self.assertLess(peak, 1 << 20)


class TokenizeTest(CorpusTestCase):
  @hypothesis.given(TEXTS, st.integers(1, 8))
  @hypothesis.settings(max_examples=25, deadline=None)
  def test_bytes_round_trip(self, text, chunk_bytes):
    """The tokens of the bytes tokenizer are the text's UTF-8 bytes."""
    with tempfile.TemporaryDirectory() as cache:
      path = self.write("text", text)
      found = tokenize(path, cache, chunk_bytes=chunk_bytes)
      tokens = found.tokens()
      self.assertEqual(tokens.tobytes().decode(), text)
      self.assertEqual(tokens.dtype, np.uint8)
      self.assertFalse(tokens.flags.writeable)
      self.assertEqual(found.vocab_size, 256)
      self.assertEqual(found.length, found.num_bytes)

  def test_manifest_describes_the_text(self):
    """The hash is that of the decompressed text, breaks included."""
    self.write("text/a.gz", gzip.compress(b"abc"))
    self.write("text/b", b"de")
    found = tokenize(self.folder / "text", self.cache)
    manifest = json.loads(found.path.with_suffix(".json").read_text())
    self.assertEqual(manifest["sha256"], found.sha256)
    # sha256sum of abc\n\nde
    self.assertEqual(
      found.sha256,
      "d11856602abdc7cf553991e810260abc3363915fe64a63a12b13fcdd7a1158cd",
    )
    self.assertEqual(manifest["length"], 7)
    self.assertEqual(manifest["num_bytes"], 7)
    self.assertEqual(manifest["vocab_size"], 256)
    self.assertEqual(manifest["tokenizer"], "bytes")
    self.assertLen(list(self.cache.iterdir()), 2)

  def test_second_call_reuses_the_file(self):
    """Neither the text nor the tokenizer is read again."""
    path = self.write("text", SAMPLE)
    first = tokenize(path, self.cache)
    with mock.patch.object(corpus, "read_text", side_effect=AssertionError):
      self.assertEqual(tokenize(path, self.cache), first)

  def test_a_changed_text_or_tokenizer_is_tokenised_anew(self):
    """The size, the modification time and the tokenizer are in the key."""
    path = self.write("text", "one")
    found = [tokenize(path, self.cache)]
    self.write("text", "three")
    found.append(tokenize(path, self.cache))
    self.write("text", "seven")
    os.utime(path, ns=(0, time.time_ns() + 10**9))
    found.append(tokenize(path, self.cache))
    other = dataclasses.replace(load_tokenizer(), sha256="other")
    found.append(corpus.tokenize(path, self.cache, other))
    self.assertLen({file.path for file in found}, 4)
    texts = [file.tokens().tobytes() for file in found[:3]]
    self.assertEqual(texts, [b"one", b"three", b"seven"])

  def test_damaged_files_are_made_anew(self):
    """A short token file or a broken manifest is not believed."""
    path = self.write("text", SAMPLE)
    found = tokenize(path, self.cache)
    manifest = found.path.with_suffix(".json")
    for file, damage in (
      (found.path, b"short"),
      (manifest, b"{"),
      (manifest, b"[]"),
      (manifest, b'{"length": 3}'),
    ):
      file.write_bytes(damage)
      again = tokenize(path, self.cache)
      self.assertEqual(again, found)
      self.assertEqual(again.tokens().tobytes(), SAMPLE.encode())

  @parameterized.parameters(1, 2)
  def test_a_killed_call_leaves_nothing_that_counts(self, nth):
    """Killed before either rename, it leaves a file that is ignored."""
    path = self.write("text", SAMPLE)
    script = (
      "import os, signal, sys; from jaxlook.text import corpus, tokenizer\n"
      "real, calls = os.replace, []\n"
      "def replace(*names):\n"
      "  calls.append(names)\n"
      f"  if len(calls) == {nth}: os.kill(os.getpid(), signal.SIGKILL)\n"
      "  real(*names)\n"
      "os.replace = replace\n"
      "corpus.tokenize(*sys.argv[1:], tokenizer.load_tokenizer())"
    )
    killed = subprocess.run([sys.executable, "-c", script, path, self.cache])
    self.assertEqual(killed.returncode, -signal.SIGKILL)
    left = list(self.cache.iterdir())
    self.assertLen(left, nth)
    leftovers = [f for f in left if f.suffix == TEMPORARY_SUFFIX]
    self.assertLen(leftovers, 1)
    found = tokenize(path, self.cache)
    self.assertEqual(found.tokens().tobytes(), SAMPLE.encode())
    self.assertLen(list(self.cache.iterdir()), 3)

  def test_a_failed_call_leaves_nothing(self):
    """An error in the middle of a text removes the unfinished file."""
    path = self.write("text", "good" * 99 + "\0")
    with self.assertRaisesRegex(ValueError, "binary"):
      tokenize(path, self.cache, chunk_bytes=16)
    self.assertEmpty(list(self.cache.iterdir()))

  def test_concurrent_calls_agree(self):
    """Eight calls that all find nothing all end with the whole file."""
    path = self.write("text", SAMPLE * 1000)
    barrier = threading.Barrier(8)

    def find_nothing(*_):
      barrier.wait(timeout=10)

    with (
      mock.patch.object(corpus, "_find", find_nothing),
      concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
      calls = [
        pool.submit(tokenize, path, self.cache, chunk_bytes=100 + i)
        for i in range(8)
      ]
      found = {call.result() for call in calls}
    self.assertEqual(found, {tokenize(path, self.cache)})
    tokens = found.pop().tokens()
    self.assertEqual(tokens.tobytes(), (SAMPLE * 1000).encode())
    self.assertLen(list(self.cache.iterdir()), 2)

  def test_refuses_a_text_that_changes_while_it_is_read(self):
    """The tokens of a file that is being written are not kept."""
    path = self.write("text", "one")
    real = corpus.read_text

    def read_text(*args, **kwargs):
      yield from real(*args, **kwargs)
      self.write("text", "longer")

    with mock.patch.object(corpus, "read_text", read_text):
      with self.assertRaisesRegex(ValueError, "text: the text changed while"):
        tokenize(path, self.cache)
    self.assertEmpty(list(self.cache.iterdir()))

  def test_refuses_a_cache_within_the_text(self):
    """The token file would become part of the text."""
    self.write("text/a", "one")
    with self.assertRaisesRegex(ValueError, "cache: the cache may not lie ins"):
      tokenize(self.folder / "text", self.folder / "text/cache")

  def test_refuses_missing_text(self):
    """The text is looked at before anything is written."""
    with self.assertRaisesRegex(FileNotFoundError, "absent: no such file or f"):
      tokenize(self.folder / "absent", self.cache)
    self.assertFalse(self.cache.exists())
