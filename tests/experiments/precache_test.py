"""The pre-caching binary from end to end."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import pyarrow.parquet as pq
from absl.testing import parameterized

from experiments.common import precache_setup
from experiments.reports import precache as report
from tests.fixtures import base, binaries

VARIANTS = {"causal", "myopic/residual", "myopic/kv", "self_only"}


class PrecacheTest(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.out = pathlib.Path(root) / "run"

  def test_smoke_run_writes_what_it_promises(self):
    """Result, cells, figure, report; a second run trains nothing."""
    arguments = ("--preset=smoke", f"--out={self.out}")
    first = binaries.run("precache", *arguments)
    self.assertEqual(first.returncode, 0, first.stderr)
    result = binaries.result(self.out)
    self.assertEqual(result["experiment"], "precache")
    self.assertEqual(result["preset"], "smoke")
    trained = [c for c in result["cells"] if c["variant"] in VARIANTS]
    self.assertLen(trained, 2 * len(VARIANTS))
    others = {c["variant"] for c in result["cells"]} - VARIANTS
    self.assertEqual(others, {"zero", "zero where z=1"})
    self.assertEqual(
      [claim["id"] for claim in result["claims"]],
      ["upstream", "projection", "gap", "floor"],
    )
    table = pq.read_table(self.out / "cells.parquet")
    self.assertLen(result["cells"], table.num_rows)
    report = (self.out / "report.md").read_text()
    self.assertIn("figures/losses.png", report)
    self.assertTrue((self.out / "figures" / "losses.png").exists())
    self.assertIn("myopia gap", first.stdout)
    again = binaries.run("precache", *arguments)
    self.assertEqual(again.returncode, 0, again.stderr)
    self.assertEqual(binaries.result(self.out), result)

  def test_killed_run_ends_as_if_it_had_not_been(self):
    """SIGTERM, then SIGKILL, then a third start: bit-identical metrics."""
    arguments = ("--preset=smoke", "--steps=400", "--attention=causal")
    whole = self.out.with_name("whole")
    done = binaries.run("precache", *arguments, f"--out={whole}")
    self.assertEqual(done.returncode, 0, done.stderr)
    for number, status in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
      self.assertEqual(self._kill_at_a_checkpoint(arguments, number), status)
      self.assertFalse((self.out / "result.json").exists())
    done = binaries.run("precache", *arguments, f"--out={self.out}")
    self.assertEqual(done.returncode, 0, done.stderr)
    expected, found = binaries.result(whole), binaries.result(self.out)
    self.assertEqual(found["cells"], expected["cells"])
    curves = [
      pq.read_table(out / "arms/causal/metrics.parquet")
      for out in (whole, self.out)
    ]
    self.assertTrue(curves[0].equals(curves[1]))

  def _kill_at_a_checkpoint(self, arguments, number) -> int:
    """Starts a run and kills it once it has written one more checkpoint."""

    def newest():
      return sorted(self.out.glob("arms/*/checkpoints/[0-9]*"))

    before = newest()
    process = subprocess.Popen(
      binaries.command("precache", *arguments, f"--out={self.out}"),
      cwd=binaries.ROOT,
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    while newest() == before and process.poll() is None:
      time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate()
    if number == signal.SIGTERM:
      self.assertIn("; continue with the same command and --out=", stderr)
    return process.returncode

  @parameterized.parameters(
    (["--attention=sideways"], "--attention: 'sideways' is unknown"),
    (["--preset=huge"], "--preset=huge: must be one of smoke|cpu|paper"),
  )
  def test_bad_input_is_one_line(self, arguments, message):
    """Refused by the process itself: one line, status 2, nothing written."""
    done = binaries.run("precache", *arguments, f"--out={self.out}")
    self.assertEqual(done.returncode, 2)
    self.assertIn(message, done.stderr)
    self.assertLen(done.stderr.strip().splitlines(), 1)
    self.assertEmpty(done.stdout)
    self.assertFalse(self.out.exists())


class ClaimsTest(base.TestCase):
  def test_published_figures_are_claimed_in_the_published_setup_only(self):
    """W4 and W5 speak of the paper's task, model and training."""
    paper = precache_setup.PRESETS["paper"]
    values = {
      "causal": {0: 0.01, 1: 0.02, 2: 0.02},
      "myopic/residual": {0: 1.249, 1: 1.25, 2: 1.251},
    }
    problem = precache_setup.problem(paper, 1.0)
    claims = {c.id: c for c in report.claims(paper, problem, values)}
    for name in ("p=1.0/W4", "p=1.0/W5"):
      self.assertEqual(claims[name].verdict, "supported")
    shorter = dataclasses.replace(
      paper, train=dataclasses.replace(paper.train, steps=5)
    )
    found = report.claims(shorter, problem, values)
    self.assertEqual([c.id for c in found], ["p=1.0/upstream"])
