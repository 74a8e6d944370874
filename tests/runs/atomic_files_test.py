"""Atomic files: whole or not at all, and one name per text."""

import errno
import json
import math
import os
import stat
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import absltest, parameterized
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxlook.runs import atomic_files
from tests.fixtures import base

_MANY = settings(max_examples=300, deadline=None)
# Few letters, and those that a slug treats differently, so that near misses
# such as "%2f" and "/" do turn up.
_TEXTS = st.text("aA1/:+@~^% .-=,_\n\x00é%2f", min_size=1, max_size=6)


def _every_write():
  table = pa.table({"loss": [0.5, None]})
  return (
    ("bytes", lambda path: atomic_files.write_bytes(path, b"new")),
    ("json", lambda path: atomic_files.write_json(path, {"new": 1})),
    ("table", lambda path: atomic_files.write_table(path, table)),
  )


class WriteTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.path = self.folder / "file"

  def test_errors_name_the_file(self):
    """And not the hidden one, or none, whichever call fails."""
    for call in ("fsync", "replace"):
      full = OSError(errno.ENOSPC, "No space left on device")
      with (
        mock.patch.object(os, call, side_effect=full),
        self.assertRaises(OSError) as caught,
      ):
        atomic_files.write_bytes(self.path, b"new")
      self.assertEqual(caught.exception.filename, str(self.path))

  @parameterized.named_parameters(*_every_write())
  def test_crash_before_rename_changes_nothing(self, write):
    """A write that dies before the rename leaves the old file, and only it."""
    self.path.write_bytes(b"old")
    with (
      mock.patch.object(os, "replace", side_effect=OSError("power cut")),
      self.assertRaisesRegex(OSError, "power cut"),
    ):
      write(self.path)
    self.assertEqual(os.listdir(self.folder), ["file"])
    self.assertEqual(self.path.read_bytes(), b"old")

  @parameterized.named_parameters(*_every_write())
  def test_crash_while_writing_changes_nothing(self, write):
    """So does one that dies while the data goes to disk."""
    with (
      mock.patch.object(os, "fsync", side_effect=KeyboardInterrupt),
      self.assertRaises(KeyboardInterrupt),
    ):
      write(self.path)
    self.assertEqual(os.listdir(self.folder), [])

  def test_data_is_on_disk_before_it_has_its_name(self):
    """The order is: sync the file, rename it, sync the folder."""
    calls = []
    replace, fsync = os.replace, os.fsync

    def record_fsync(descriptor):
      is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
      calls.append("sync folder" if is_folder else "sync file")
      fsync(descriptor)

    def record_replace(source, target):
      self.assertEqual(Path(source).read_bytes(), b"new")
      calls.append("rename")
      replace(source, target)

    with (
      mock.patch.object(os, "fsync", record_fsync),
      mock.patch.object(os, "replace", record_replace),
    ):
      atomic_files.write_bytes(self.path, b"new")
    self.assertEqual(calls, ["sync file", "rename", "sync folder"])

  def test_makes_folders_and_replaces(self):
    """Missing folders are made; a second write replaces the first."""
    path = self.folder / "a" / "b" / "file"
    atomic_files.write_bytes(path, b"first, longer")
    atomic_files.write_bytes(path, b"second")
    self.assertEqual(path.read_bytes(), b"second")
    self.assertEqual(os.listdir(path.parent), ["file"])

  def test_others_may_read_it(self):
    """A file has the mode that the umask gives, like any other."""
    atomic_files.write_bytes(self.path, b"")
    (self.folder / "plain").write_bytes(b"")
    self.assertEqual(
      self.path.stat().st_mode, (self.folder / "plain").stat().st_mode
    )

  def test_json_is_strict(self):
    """Non-finite floats become null; the file is strict JSON."""
    value = {
      "nan": math.nan,
      "inf": [-math.inf, np.float32(math.inf)],
      "array": np.arange(2),
      "tuple": (1, "é", None, True),
    }
    atomic_files.write_json(self.path, value)

    def refuse(constant):
      self.fail(f"{constant} is not JSON")

    self.assertEqual(
      json.loads(self.path.read_text(), parse_constant=refuse),
      {
        "nan": None,
        "inf": [None, None],
        "array": [0, 1],
        "tuple": [1, "é", None, True],
      },
    )

  def test_json_refuses_before_it_writes(self):
    """What JSON cannot hold is named, and no file appears."""
    with self.assertRaisesRegex(ValueError, r"value\.a\[1\]: .* got set$"):
      atomic_files.write_json(self.path, {"a": [0, {1}]})
    self.assertEqual(os.listdir(self.folder), [])

  def test_table_round_trip(self):
    """A table reads back as it was, nulls and all."""
    table = pa.table({"step": [1, 2], "loss": [0.5, None]})
    atomic_files.write_table(self.path, table)
    self.assertTrue(pq.read_table(self.path).equals(table))

  @parameterized.named_parameters(*_every_write())
  def test_cannot_write(self, write):
    """A path that cannot be is an OSError."""
    for path in ("/dev/null/x", "/proc/nowhere/x"):
      with self.assertRaises(OSError):
        write(path)


class SlugTest(base.TestCase):
  @parameterized.parameters(
    ("causal", "causal"),
    ("myopic/residual", "myopic+residual"),
    ("leak:0.3/kv/values", "leak@0.3+kv+values"),
    ("causal,horizon:4", "causal,horizon@4"),
    ("p=0.3 myopic/kv", "p=0.3~myopic+kv"),
    ("N=64", "^n=64"),
    ("..", "%2e."),
    (".", "%2e"),
    ("-rf", "%2drf"),
    ("1e-3", "1e-3"),
    ("a+b@c", "a%2bb%40c"),
    ("é", "%c3%a9"),
  )
  def test_readable(self, text, expected):
    self.assertEqual(atomic_files.slug(text), expected)

  @_MANY
  @given(_TEXTS, _TEXTS)
  @example("%c3%a9", "é")
  @example("%sha", "%SHA")
  @example("\ud800", "?")
  def test_distinct_texts_have_distinct_names(self, one, other):
    """Equal names mean equal texts, also where case does not count."""
    same = atomic_files.slug(one).lower() == atomic_files.slug(other).lower()
    self.assertEqual(same, one == other)

  @_MANY
  @given(st.text(min_size=1, max_size=200))
  def test_makes_one_file(self, text):
    """Every name is one visible, short, ASCII path component."""
    name = atomic_files.slug(text)
    self.assertRegex(name, r"^[a-z0-9_=,+@~^%][a-z0-9._=,+@~^%-]{0,119}$")

  def test_long_texts_stay_apart(self):
    """Long texts that differ anywhere differ by digest; no short text hits."""
    layers = ",".join(["horizon:4"] * 48)
    names = {
      atomic_files.slug(text)
      for text in (layers, f"{layers},causal", layers.replace("4", "5", 1))
    }
    self.assertLen(names, 3)
    for name in names:
      self.assertLen(name, 120)
      self.assertNotEqual(atomic_files.slug(name), name)

  def test_refuses_nothing(self):
    with self.assertRaisesRegex(ValueError, "a text that is not empty"):
      atomic_files.slug("")


if __name__ == "__main__":
  absltest.main()
