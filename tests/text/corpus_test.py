"""Reading text, and tokenizing it into token files."""

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
from jaxlook.text import corpus, pieces
from jaxlook.text.tokenizer import load_tokenizer
from tests.fixtures.checkpoints import LFS_POINTER
from tests.fixtures.corpora import SAMPLE, TEXTS, CorpusTestCase, tokenize

_GPT2 = pathlib.Path(__file__).parents[3] / "shared/data/gpt2-bpe"


class ReadTextTest(CorpusTestCase):
  @parameterized.parameters(
    ("a.txt", bytes), (".GZ", gzip.compress), ("a.xz", lzma.compress)
  )
  def test_reads_plain_and_compressed(self, suffix, compress):
    """The suffix selects the decompression; line ends are unchanged."""
    path = self.write("text" + suffix, compress(SAMPLE.encode()))
    self.assertEqual("".join(corpus.read_text(path)), SAMPLE)

  def test_folder_is_read_in_order_with_breaks(self):
    """Files are joined by relative name, without hidden and empty files."""
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
  def test_chunk_size_does_not_change_the_text(self, text, chunk_bytes):
    """Characters that span two chunks are decoded."""
    path = self.write("text", text)
    parts = list(corpus.read_text(path, chunk_bytes=chunk_bytes))
    self.assertEqual("".join(parts), text)
    self.assertLessEqual(max(len(p.encode()) for p in parts), chunk_bytes + 3)

  @parameterized.named_parameters(
    ("empty", "a.txt", b"", "a.txt: the text is empty"),
    ("empty_gz", "a.gz", gzip.compress(b""), "a.gz: the text is empty"),
    ("nul", "a.txt", b"text\0text", "a.txt: binary"),
    ("pointer", "a.txt", LFS_POINTER, "a.txt is a Git LFS pointer"),
    ("gz_pointer", "a.gz", LFS_POINTER, "a.gz is a Git LFS pointer"),
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
  def test_binary_and_broken_files_are_refused(self, name, data, message):
    """The error is one line and names the file, for every chunk size."""
    self.write(name, data)
    for chunk_bytes in (1, 7, 1 << 20):
      with self.assertRaisesRegex(ValueError, message) as caught:
        path = self.folder / name.split("/")[0]
        list(corpus.read_text(path, chunk_bytes=chunk_bytes))
      self.assertIn(str(self.folder / name), str(caught.exception))
      self.assertNotIn("\n", str(caught.exception))

  def test_missing_paths_are_refused(self):
    """A missing path, a path below a file and a dangling link are errors."""
    self.write("file", "text")
    (self.folder / "links").mkdir()
    (self.folder / "links/broken").symlink_to("nowhere")
    for name in ("absent", "file/below", "links"):
      with self.assertRaisesRegex(FileNotFoundError, f"{name}.*: no such file"):
        list(corpus.read_text(self.folder / name))

  def test_unreadable_paths_are_refused(self):
    """Empty folders, pipes, link loops and missing permissions are errors."""
    self.write("folder/.hidden", "text")
    with self.assertRaisesRegex(ValueError, "folder: the folder has no files"):
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
    """8 MB in one line are cut into pieces with less than 1 MB of memory."""
    path = self.write("big.gz", gzip.compress(b"word " * 1_600_000, 1))
    tracemalloc.start()
    total = 0
    texts = corpus.read_text(path, chunk_bytes=1 << 16)
    for cut in pieces.split_pieces(texts, pieces.GPT2_CUT):
      total += sum(map(len, cut))
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
      file = tokenize(path, cache, chunk_bytes=chunk_bytes)
      tokens = file.tokens()
      self.assertEqual(tokens.tobytes().decode(), text)
      self.assertEqual(tokens.dtype, np.uint8)
      self.assertFalse(tokens.flags.writeable)
      self.assertEqual(file.vocab_size, 256)
      self.assertEqual(file.length, file.num_bytes)

  def test_manifest_describes_the_text(self):
    """The hash is that of the decompressed text, breaks included."""
    self.write("text/a.gz", gzip.compress(b"abc"))
    self.write("text/b", b"de")
    file = tokenize(self.folder / "text", self.cache)
    manifest = json.loads(file.path.with_suffix(".json").read_text())
    self.assertEqual(manifest["sha256"], file.sha256)
    # sha256sum of abc\n\nde
    self.assertEqual(
      file.sha256,
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

  def test_a_changed_text_or_tokenizer_is_tokenized_again(self):
    """Size, modification time and tokenizer are part of the key."""
    path = self.write("text", "one")
    files = [tokenize(path, self.cache)]
    self.write("text", "three")
    files.append(tokenize(path, self.cache))
    self.write("text", "seven")
    os.utime(path, ns=(0, time.time_ns() + 10**9))
    files.append(tokenize(path, self.cache))
    other = dataclasses.replace(load_tokenizer(), sha256="other")
    files.append(corpus.tokenize(path, self.cache, other))
    self.assertLen({file.path for file in files}, 4)
    texts = [file.tokens().tobytes() for file in files[:3]]
    self.assertEqual(texts, [b"one", b"three", b"seven"])

  def test_damaged_files_are_written_again(self):
    """A truncated token file or a broken manifest is not used."""
    path = self.write("text", SAMPLE)
    file = tokenize(path, self.cache)
    manifest = file.path.with_suffix(".json")
    for damaged, content in (
      (file.path, b"short"),
      (manifest, b"{"),
      (manifest, b"[]"),
      (manifest, b'{"length": 3}'),
    ):
      damaged.write_bytes(content)
      again = tokenize(path, self.cache)
      self.assertEqual(again, file)
      self.assertEqual(again.tokens().tobytes(), SAMPLE.encode())

  @parameterized.parameters(1, 2)
  def test_a_killed_call_leaves_only_temporary_files(self, nth):
    """After a kill before either rename, the next call writes the file."""
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
    files = list(self.cache.iterdir())
    self.assertLen(files, nth)
    leftovers = [f for f in files if f.suffix == TEMPORARY_SUFFIX]
    self.assertLen(leftovers, 1)
    file = tokenize(path, self.cache)
    self.assertEqual(file.tokens().tobytes(), SAMPLE.encode())
    self.assertLen(list(self.cache.iterdir()), 3)

  def test_a_failed_call_leaves_nothing(self):
    """An error within a text removes the unfinished file."""
    path = self.write("text", "good" * 99 + "\0")
    with self.assertRaisesRegex(ValueError, "binary"):
      tokenize(path, self.cache, chunk_bytes=16)
    self.assertEmpty(list(self.cache.iterdir()))

  def test_concurrent_calls_agree(self):
    """Eight calls that write the same file all return the whole file."""
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
      results = {call.result() for call in calls}
    self.assertEqual(results, {tokenize(path, self.cache)})
    tokens = results.pop().tokens()
    self.assertEqual(tokens.tobytes(), (SAMPLE * 1000).encode())
    self.assertLen(list(self.cache.iterdir()), 2)

  def test_a_text_that_changes_while_it_is_read_is_refused(self):
    """The tokens of a changing file are not kept."""
    path = self.write("text", "one")
    real = corpus.read_text

    def read_text(*args, **kwargs):
      yield from real(*args, **kwargs)
      self.write("text", "longer")

    with mock.patch.object(corpus, "read_text", read_text):
      with self.assertRaisesRegex(ValueError, "text: the text changed while"):
        tokenize(path, self.cache)
    self.assertEmpty(list(self.cache.iterdir()))

  def test_a_cache_within_the_text_is_refused(self):
    """A token file there would become part of the text."""
    self.write("text/a", "one")
    with self.assertRaisesRegex(
      ValueError, "cache: the cache is inside the text"
    ):
      tokenize(self.folder / "text", self.folder / "text/cache")

  def test_a_missing_text_is_refused(self):
    """The text is checked before anything is written."""
    with self.assertRaisesRegex(FileNotFoundError, "absent: no such file or f"):
      tokenize(self.folder / "absent", self.cache)
    self.assertFalse(self.cache.exists())
