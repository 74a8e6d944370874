"""The token_gap binary from end to end, on the generated text."""

import contextlib
import io
import pathlib
import tempfile

# The text task imports it late: its flags would go when saved ones come back.
import grain  # noqa: F401
import pyarrow.parquet as pq
from absl.testing import flagsaver

from experiments import token_gap
from experiments.common import app
from tests.fixtures import base, binaries


class TokenGapTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def run_main(self, **values):
    """Runs the binary's main in this process."""
    values = {"preset": "smoke", "cache": str(self.root / "cache")} | values
    with (
      flagsaver.flagsaver(**values),
      contextlib.redirect_stdout(io.StringIO()),
    ):
      binaries.run_main(token_gap)

  def refuse(self, message, **values):
    with self.assertRaisesRegex(app.UsageError, message) as caught:
      self.run_main(out=str(self.root / "other"), **values)
    self.assertLen(str(caught.exception).splitlines(), 1)

  def test_smoke_run_and_its_arms_again(self):
    """Trained here, or taken from the run folder: the same gap."""
    out = self.root / "run"
    self.run_main(out=str(out), attention=["myopic/kv"])
    result = binaries.result(out)
    self.assertEqual(
      {(cell["variant"], cell["seed"]) for cell in result["cells"]},
      {("myopic/kv", 0), ("myopic/kv", 1)},
    )
    self.assertEqual(
      [claim["id"].removeprefix("myopic/kv/") for claim in result["claims"]],
      ["W10/start", "W10/late", "W10/rise"]
      + ["repeated", "far", "continues", "rare", "line"],
    )
    table = pq.read_table(out / "measurements.parquet").to_pylist()
    for seed in (0, 1):
      mine = [row for row in table if row["seed"] == seed]
      whole = result["cells"][seed]["metrics"]["gap"]
      for kind in {row["kind"] for row in mine}:
        rows = [row for row in mine if row["kind"] == kind]
        tokens = sum(row["tokens"] for row in rows)
        self.assertEqual(tokens, 512)
        mean = sum(row["tokens"] * row["gap"] for row in rows) / tokens
        self.assertAlmostEqual(mean, whole, places=6)
    report = (out / "report.md").read_text()
    self.assertIn("figures/gap.png", report)
    self.assertTrue((out / "figures/gap.png").exists())
    self.assertIn("chosen by seeds [0], measured on [1]", report)
    again = self.root / "again"
    self.run_main(out=str(again), model=str(out))
    self.assertEqual(binaries.result(again)["claims"], result["claims"])
    self.assertFalse((again / "arms").exists())
    self.refuse("^--step: must be above 0", model=str(out), step=0)
    self.refuse(
      "^--attention: gives myopic/kv; causal and another are",
      model=str(out),
      attention=["myopic/kv"],
    )

  def test_refusals(self):
    """One line that names the flag, before anything is trained."""
    self.refuse("^--attention: gives causal; ", attention=["causal"])
    self.refuse("^--task: must be text", task="precache")
    self.refuse("^--workers: must lie in 1..4096, not 0", workers=0)
    corpus = self.root / "text"
    corpus.mkdir()
    for name in "ab":
      (corpus / name).write_text("a short document")
    self.refuse(
      "^--corpus: has documents too short",
      corpus=str(corpus),
      documents=True,
    )
    self.assertFalse((self.root / "other").exists())
