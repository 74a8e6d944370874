"""The memories binary from end to end, on the generated text."""

import dataclasses
import pathlib
import tempfile
from unittest import mock

# The text task imports it late: its flags would go when saved ones come back.
import grain  # noqa: F401
import numpy as np
import pyarrow.parquet as pq
from absl.testing import flagsaver

from experiments import memories
from experiments.common import app
from experiments.reports.memories_claims import RANDOM
from jaxlook.circuits.memory_study import agreement_name, ending_name
from tests.fixtures import base, binaries

FIGURES = ("agreement", "patterns", "activity", "refinement")


class MemoriesTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def test_smoke_run_writes_what_it_promises(self):
    """Every arm and layer, claims with sources, figures, readable triggers."""
    out = self.root / "run"
    done = binaries.run(
      "memories",
      "--preset=smoke",
      f"--out={out}",
      f"--cache={self.root / 'cache'}",
      "--attention=myopic/kv",
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    result = binaries.result(out)
    variants = ("causal", "myopic/kv", "untrained")
    cells = {(c["variant"], c["seed"]): c["metrics"] for c in result["cells"]}
    self.assertEqual(set(cells), {(v, s) for v in variants for s in (0, 1)})
    self.assertContainsSubset(
      {"G1/endings", "G2/rise", "G2/chance", "refine/compromise", "ahead/kv"},
      {claim["id"] for claim in result["claims"]},
    )
    (rise,) = (c for c in result["claims"] if c["id"] == "G2/rise")
    first = [cells["causal", s] for s in (0, 1)]
    named = [f"{agreement_name('first')}/layer{layer}" for layer in (0, 1)]
    rises = [cell[named[1]] - cell[named[0]] for cell in first]
    self.assertAlmostEqual(rise["estimate"], np.mean(rises), places=6)
    rows = pq.read_table(out / "measurements.parquet").to_pylist()
    chance = {r["measure"]: r["value"] for r in rows if r["variant"] == RANDOM}
    self.assertGreater(chance[ending_name(1, "coverage")], 0.0)
    (endings,) = (c for c in result["claims"] if c["id"] == "G1/endings")
    two = ending_name(2, "coverage")
    shares = [cell[f"{two}/layer{layer}"] for cell in first for layer in (0, 1)]
    self.assertAlmostEqual(
      endings["estimate"], np.mean(shares) - chance[two], places=6
    )
    places = {(row["variant"], row["layer"]) for row in rows}
    self.assertContainsSubset(
      {(variant, layer) for variant in variants for layer in (0, 1)}, places
    )
    shares = [
      sum(row["value"] for row in rows if _case(row, variant))
      for variant in variants
    ]
    # Of two seeds and two layers, each of the cases adds to one.
    self.assert_close(np.array(shares), np.full(3, 4.0), atol=1e-5)
    report = (out / "report.md").read_text()
    for name in FIGURES:
      self.assertIn(f"figures/{name}.png", report)
      self.assertTrue((out / "figures" / f"{name}.png").exists())
    self.assertRegex(report, r"` → `[^`]+` \(\d")

  def test_models_without_feed_forward_layers(self):
    """Refused by name; a short text will do for that."""
    corpus = self.root / "text"
    corpus.write_bytes(b"some words to read\n" * 999)
    smoke = dataclasses.replace(memories.TEXT["smoke"], mlp_width=0)
    with (
      mock.patch.dict(memories.TEXT, smoke=smoke),
      flagsaver.flagsaver(
        preset="smoke",
        task="text",
        corpus=str(corpus),
        cache=str(self.root / "cache"),
        out=str(self.root / "run"),
      ),
      self.assertRaisesRegex(app.UsageError, "^--model: has no feed-forward"),
    ):
      memories.main()
    self.assertFalse((self.root / "run").exists())

  def test_a_task_without_tokens_is_one_line(self):
    """Refused by name, before anything is written."""
    out = self.root / "run"
    done = binaries.run("memories", "--task=precache", f"--out={out}")
    self.assertEqual(done.returncode, 2)
    self.assertIn(
      "--task: must be text: this binary studies tokens", done.stderr
    )
    self.assertLen(done.stderr.strip().splitlines(), 1)
    self.assertFalse(out.exists())


def _case(row, variant) -> bool:
  return row["variant"] == variant and row["measure"].startswith("output")
