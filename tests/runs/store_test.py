"""Tests of jaxlook.runs: whose folder it is, what is finished, who may in."""

import errno
import gc
import json
import math
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import absltest, parameterized

from jaxlook import runs
from jaxlook.runs.folder import InUse
from jaxlook.runs.store import Grown
from tests.fixtures import base

_CONFIG = {"steps": 100, "model": {"width": 64, "layers": (1, 2)}, "lr": None}
_METRICS = pa.table({"step": [1, 2], "loss": [0.5, None]})

# Takes the lock as a run would, says so, and waits to be told to end.
_HOLD = """
import fcntl, os, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
file.write(str(os.getpid()))
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


class StoreTestCase(base.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.root = self.folder / "runs" / "sines"

  def _refused(self, message: str, root=None, config=None):
    """Asserts that the store is refused, and in one line."""
    with self.assertRaisesRegex(ValueError, message) as caught:
      runs.open_store(root or self.root, config or _CONFIG)
    self.assertNotIn("\n", str(caught.exception))

  def _everything(self) -> dict[str, bytes]:
    return {
      str(path.relative_to(self.folder)): path.read_bytes()
      for path in self.folder.rglob("*")
      if path.is_file()
    }


class OpenStoreTest(StoreTestCase):
  def test_makes_and_reopens(self):
    """A new folder gets the config; the same config opens it again."""
    with runs.open_store(self.root, _CONFIG) as store:
      self.assertEqual(store.root, self.root)
    with runs.open_store(str(self.root), _CONFIG) as store:
      self.assertEqual(store.config["model"], {"width": 64, "layers": [1, 2]})
    self.assertEqual(
      json.loads((self.root / "config.json").read_text()),
      {"steps": 100, "model": {"width": 64, "layers": [1, 2]}, "lr": None},
    )
    self.assertCountEqual(os.listdir(self.root), ["config.json", ".lock"])

  def test_takes_an_empty_folder(self):
    """An empty folder becomes a store, as does one killed in its first step."""
    self.root.mkdir(parents=True)
    (self.root / ".lock").touch()
    (self.root / ".config.json.12ab.jaxlook-tmp").write_text("{")
    with runs.open_store(self.root, _CONFIG):
      self.assertCountEqual(os.listdir(self.root), ["config.json", ".lock"])

  @parameterized.parameters(
    (
      {**_CONFIG, "steps": 200},
      "steps is 100 there, 200 here",
    ),
    (
      {**_CONFIG, "model": {"width": 32, "layers": [1, 3]}},
      r"model.width is 64 there, 32 here; model.layers is \[1, 2\] there,"
      r" \[1, 3\] here",
    ),
    (
      {"steps": 100, "model": _CONFIG["model"], "seeds": 5},
      "lr is null there, absent here; seeds is absent there, 5 here",
    ),
    (
      {**_CONFIG, "lr": False},
      "lr is null there, false here",
    ),
    (
      {"a": 1},
      "steps is 100 there, absent here; model is .* and 1 more",
    ),
  )
  def test_refuses_another_config(self, config, message):
    """Another config is refused by its first differences; nothing changes."""
    runs.open_store(self.root, _CONFIG).close()
    before = self._everything()
    message = f"{self.root} belongs to .* another config: {message}; choose"
    self._refused(message, config=config)
    self.assertEqual(self._everything(), before)

  def test_a_field_of_a_later_version(self):
    """A config that lacks what is not asked for now is the same config."""
    runs.open_store(self.root, {"train": {"steps": 1}}).close()
    later = {"steps": 1, "remat": False, "loss_tokens": None}
    runs.open_store(self.root, {"train": later}).close()
    self._refused(
      "train.remat is absent there, true here; choose",
      config={"train": later | {"remat": True}},
    )

  def test_true_is_not_one(self):
    """A config that trades 1 for True is another config, 1.0 is not."""
    runs.open_store(self.root, {"flag": 1}).close()
    self._refused(
      "flag is 1 there, true here; choose",
      config={"flag": True},
    )
    runs.open_store(self.root, {"flag": 1.0}).close()

  def test_refuses_someone_elses_folder(self):
    """A folder with files and no config is left as it was."""
    (self.folder / "thesis.tex").write_text("\\begin")
    self._refused(
      "holds files but no config.json; choose a run folder or a new one$",
      self.folder,
    )
    self.assertEqual(list(self._everything()), ["thesis.tex"])

  def test_refuses_someone_elses_config(self):
    """So is one whose config.json is not a run's."""
    for text, message in (
      ("{", "config.json does not hold JSON"),
      ("[]", "config.json does not hold a JSON object$"),
      ('{"n_layer": 2}', "n_layer is 2 there, absent here"),
    ):
      (self.folder / "config.json").write_text(text)
      self._refused(message, self.folder)
      self.assertEqual(list(self._everything()), ["config.json"])

  def test_refuses_what_is_no_folder(self):
    """A file, or a path through one, is refused."""
    file = self.folder / "file"
    file.touch()
    self._refused("file is a file or lies in one; choose a folder$", file)
    self._refused(
      "file/x is a file or lies in one; choose a folder$", file / "x"
    )
    self._refused("is a file or lies in one; choose a folder$", "/dev/null/x")

  def test_refuses_what_cannot_be_written(self):
    """So is a folder that cannot be made or written, whoever we are."""
    self._refused("^cannot write /proc/x: ", "/proc/x")
    long = self.folder / ("x" * 300)
    self._refused("^cannot write .*: File name too long$", long)

  @parameterized.parameters(False, True)
  def test_refuses_a_full_disk(self, reopened):
    """That it can be written is tried, not read off permission bits."""
    if reopened:
      runs.open_store(self.root, _CONFIG).close()
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch.object(os, "fsync", side_effect=full):
      self._refused("^cannot write .*: No space left on device$")
    runs.open_store(self.root, _CONFIG).close()

  @parameterized.parameters(
    ({"horizon": math.inf}, "^config.horizon: expected a finite number"),
    ({"window": {1}}, "^config.window: expected what JSON can hold, got set$"),
  )
  def test_refuses_a_config_that_json_would_change(self, config, message):
    """A config must come back as it went in; no folder is made for it."""
    self._refused(message, config=config)
    self.assertFalse(self.root.exists())

  def test_sweeps_up_after_a_killed_run(self):
    """Half-written files of a killed run are gone after reopening.

    Those of an arm stay until it is held: another run may be writing it.
    """
    with runs.open_store(self.root, _CONFIG) as store:
      arm = store.arm("causal", {})
    kept = self._everything()
    for folder in (self.root, arm.root):
      (folder / ".result.json.12ab.jaxlook-tmp").write_text("{")
    runs.open_store(self.root, _CONFIG).close()
    leftover = arm.root / ".result.json.12ab.jaxlook-tmp"
    self.assertTrue(leftover.exists())
    with arm.hold():
      self.assertFalse(leftover.exists())
    (arm.root / ".lock").unlink()
    self.assertEqual(self._everything(), kept)


class GrowthTest(StoreTestCase):
  @parameterized.parameters(
    ({"seeds": 2}, {"seeds": 4}),
    ({"p": [0.5]}, {"p": [0.3, 0.5]}),
    ({"elsewhere": None}, {"elsewhere": {"a": "1"}}),
    ({"elsewhere": {"a": "1"}}, {"elsewhere": {"a": "1", "b": "2"}}),
    (
      {"dial": {"horizons": [1], "k": 1}},
      {"dial": {"horizons": [1, 2], "k": 1}},
    ),
  )
  def test_settings_that_grow(self, old, new):
    """The config may grow and never shrinks; nothing else changes."""
    other = {"width": 4}
    runs.open_store(self.root, other | old).close()
    with self.assertRaisesRegex(ValueError, "another config"):
      runs.open_store(self.root, other | new)
    for refused in ({"width": 5} | new, {"width": 4, "more": 1} | new):
      with self.assertRaisesRegex(ValueError, "another config"):
        runs.open_store(self.root, refused, grows=tuple(new))
    with runs.open_store(self.root, other | new, grows=tuple(new)) as store:
      self.assertEqual(store.config, other | new)
      # It grows when the run is sure to begin.
      self.assertEqual(json.loads(self._config()), other | old)
      with self.assertRaises(ZeroDivisionError), store.alone():
        raise ZeroDivisionError
      self.assertEqual(json.loads(self._config()), other | old)
      with store.alone():
        pass
      self.assertEqual(json.loads(self._config()), other | new)
    with self.assertRaisesRegex(ValueError, "another config"):
      runs.open_store(self.root, other | old, grows=tuple(new))
    runs.open_store(self.root, other | new).close()

  def _config(self):
    return (self.root / "config.json").read_text()

  def test_more_steps(self):
    """Only under the schedule `wsd`; the message says so."""
    for schedule, grows in (("wsd", True), ("cosine", False)):
      root = self.root / schedule
      old, new = (
        {"train": {"steps": steps, "schedule": schedule}} for steps in (4, 8)
      )
      runs.open_store(root, old).close()
      if grows:
        with (
          runs.open_store(root, new, grows=["train"]) as store,
          store.alone(),
        ):
          pass
        old, new = new, old
      with self.assertRaisesRegex(
        ValueError,
        r"train.steps is .*\(only training under the schedule wsd can go",
      ):
        runs.open_store(root, new, grows=["train"])

  @parameterized.parameters(
    ({"points": {"a": {"w": 1}}}, {"points": {"a": {"w": 2}}}),
    ({"p": 0.5}, {"p": 0.7}),
    ({"dial": {"k": 1}}, {"dial": {"k": 2}}),
    # Of an older version, which knew AdamW and a cosine alone.
    (
      {"train": {"steps": 4}},
      {"train": {"steps": 8, "schedule": "wsd"}},
    ),
    (
      {"train": {"steps": 4, "schedule": "wsd"}},
      {"train": {"steps": 8, "schedule": "wsd", "optimizer": "muon"}},
    ),
  )
  def test_what_differs_has_not_grown(self, old, new):
    """Other values are refused, also within a setting that may grow."""
    runs.open_store(self.root, old).close()
    with self.assertRaisesRegex(ValueError, "another config"):
      runs.open_store(self.root, new, grows=tuple(new))

  def test_runs_share_a_folder(self):
    """Each holds an arm, one writes at a time, and the largest one reports."""
    small, large = {"variants": ["a"]}, {"variants": ["a", "b"]}
    first = runs.open_store(self.root, small)
    first.share()
    second = runs.open_store(self.root, large, grows=("variants",))
    second.share()
    with second.alone():
      pass
    self.assertFalse(first.follows or second.follows)
    with first.arm("a", {}).hold(), second.arm("b", {}).hold():
      with self.assertRaises(InUse), second.arm("a", {}).hold():
        self.fail("an arm was held twice")
    with (
      self.assertRaisesRegex(Grown, "another run has added to"),
      first.alone(),
    ):
      self.fail("a report of fewer arms was written")
    with second.alone():
      with self.assertRaises(InUse), second.alone(patience=0.0):
        self.fail("two wrote at a time")
    runs.open_store(self.root, large).close()


class LockTest(StoreTestCase):
  def _hold(self) -> "subprocess.Popen[str]":
    holder = subprocess.Popen(
      [sys.executable, "-c", _HOLD, str(self.root / ".lock")],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    self.enterContext(holder)
    self.addCleanup(holder.kill)
    return holder

  def test_another_process_is_refused(self):
    """While a process holds the store a second is refused by its number."""
    runs.open_store(self.root, _CONFIG).close()
    holder = self._hold()
    assert holder.stdout is not None
    self.assertEqual(holder.stdout.readline(), "held\n")
    self._refused(
      rf"^{self.root} is in use by another run \(process {holder.pid}\); wait"
      " for it or choose another folder$"
    )
    # Killed, not asked: a dead process leaves no lock behind.
    holder.kill()
    holder.wait()
    runs.open_store(self.root, _CONFIG).close()

  def test_we_keep_others_out(self):
    """While we hold the store another process cannot take the lock."""
    with runs.open_store(self.root, _CONFIG):
      _, errors = self._hold().communicate()
      self.assertIn("BlockingIOError", errors)

  def test_released_by_close_and_by_loss(self):
    """A store that is closed, twice even, or lost is free for the next."""
    store = runs.open_store(self.root, _CONFIG)
    self._refused("is open in this process already; close its store")
    store.close()
    store.close()
    store = runs.open_store(self.root, _CONFIG)
    del store
    gc.collect()
    runs.open_store(self.root, _CONFIG).close()

  def test_an_arm_has_one_worker(self):
    """Who holds an arm keeps others out; what the last one left is removed."""
    with runs.open_store(self.root, _CONFIG) as store:
      store.arm("causal", {"a": 1})
      sent = pickle.loads(pickle.dumps(runs.Arms(self.root)))
      arm = sent.arm("causal", {"a": 1})
      left = arm.root / ".result.json.12ab.jaxlook-tmp"
      left.write_text("{")
      with arm.hold():
        self.assertFalse(left.exists())
        with self.assertRaisesRegex(ValueError, "causal is open in this"):
          arm.hold().__enter__()
      with arm.hold():
        pass

  def test_a_refusal_leaves_no_descriptor(self):
    """Refused opens do not pile up open files."""
    runs.open_store(self.root, _CONFIG).close()
    before = len(os.listdir("/dev/fd"))
    with runs.open_store(self.root, _CONFIG):
      for _ in range(3):
        self._refused("is open in this process")
    self._refused("another config", config={"a": 1})
    with mock.patch.object(os, "fsync", side_effect=OSError("broken")):
      self._refused("broken")
    self.assertLen(os.listdir("/dev/fd"), before)


class FollowTest(StoreTestCase):
  def test_reads_and_writes_nothing(self):
    """A follower's arms are the leader's; only the leader's write."""
    with runs.open_store(self.root, _CONFIG) as store:
      follower = runs.follow_store(self.root, _CONFIG)
      self.assertTrue(follower.follows)
      self.assertFalse(store.follows)
      before = self._everything()
      arm = follower.arm("kv", {"variant": "kv"})
      returned = arm.write_result({"cells": (1, 2)}, _METRICS)
      self.assertEqual(self._everything(), before)
      leading = store.arm("kv", {"variant": "kv"})
      self.assertEqual(
        leading.write_result({"cells": (1, 2)}, _METRICS), returned
      )
      self.assertTrue(arm.finished)
      with self.assertRaisesRegex(ValueError, "another config: variant"):
        follower.arm("kv", {"variant": "causal"})
      follower.close()
      self._refused("is open in this process")

  def test_refusals(self):
    """Another config, and a folder that is not shared."""
    with self.assertRaisesRegex(ValueError, "all processes must share: No suc"):
      runs.follow_store(self.root, _CONFIG)
    runs.open_store(self.root, _CONFIG).close()
    with self.assertRaisesRegex(ValueError, "another config: steps is 100"):
      runs.follow_store(self.root, _CONFIG | {"steps": 1})


class WriteResultTest(StoreTestCase):
  def setUp(self):
    super().setUp()
    self.store = self.enterContext(runs.open_store(self.root, _CONFIG))
    self.result = {
      "experiment": "sines",
      "preset": "smoke",
      "config": _CONFIG,
      "environment": {"jax": "0.10.2", "device": "cpu", "commit": None},
      "cells": [
        {
          "variant": "causal",
          "seed": 0,
          "metrics": {"loss": math.nan},
          "status": "diverged",
        }
      ],
      "claims": [],
    }

  def test_writes_cells_and_result(self):
    """The table holds the cells, the JSON everything."""
    self.store.write_result(self.result)
    table = pq.read_table(self.root / "cells.parquet")
    self.assertEqual(
      table.to_pylist(),
      [{"variant": "causal", "seed": 0, "status": "diverged", "loss": None}],
    )
    written = json.loads((self.root / "result.json").read_text())
    self.assertIsNone(written["cells"][0]["metrics"]["loss"])
    self.assertEqual(written["experiment"], "sines")
    self.assertEqual(self.store.figures, self.root / "figures")

  @parameterized.parameters(
    ("claims", None, "^result.claims: expected list, got None$"),
    (
      "config",
      {**_CONFIG, "steps": 1},
      "^the store's config differs: result.config.steps is 100 there, 1 here$",
    ),
  )
  def test_refuses(self, key, value, message):
    """A result off the contract, or of another config, writes nothing."""
    self.result[key] = value
    with self.assertRaisesRegex(ValueError, message):
      self.store.write_result(self.result)
    self.assertCountEqual(os.listdir(self.root), ["config.json", ".lock"])


if __name__ == "__main__":
  absltest.main()
