"""The probing binary from end to end, on both tasks."""

import pathlib
import tempfile

import pyarrow.parquet as pq

from tests.fixtures import base, binaries


class ProbesTest(base.TestCase):
  def _run(self, *arguments: str):
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    out = root / "run"
    done = binaries.run(
      "probes",
      "--preset=smoke",
      "--attention=myopic/kv",
      f"--out={out}",
      f"--cache={root / 'cache'}",
      *arguments,
    )
    return done, out

  def test_precache(self):
    """Claims, figure and every measurement, the untrained ones as a variant."""
    done, out = self._run()
    self.assertEqual(done.returncode, 0, done.stderr)
    result = binaries.result(out)
    self.assertEqual(
      [claim["id"] for claim in result["claims"]],
      ["sine", "learned", "observable", "kv"],
    )
    variants = {"causal", "myopic/kv", "untrained"}
    cells = {(c["variant"], c["seed"]): c["metrics"] for c in result["cells"]}
    self.assertEqual(set(cells), {(v, s) for v in variants for s in (0, 1)})
    # The embedding holds x itself.
    self.assertGreater(cells["causal", 0]["R2/x[n]/block_0/residual"], 0.99)
    table = pq.read_table(out / "measurements.parquet").to_pylist()
    self.assertEqual({row["variant"] for row in table if row["site"]}, variants)
    self.assertTrue((out / "figures" / "lags.png").exists())
    self.assertIn("Paired differences", done.stdout)

  def test_text(self):
    """Tokens to come, and words, as the text's tokens are bytes."""
    done, out = self._run("--task=text")
    self.assertEqual(done.returncode, 0, done.stderr)
    result = binaries.result(out)
    claims = [claim["id"] for claim in result["claims"]]
    self.assertEqual(claims, ["learned", "observable", "ahead"])
    table = pq.read_table(out / "measurements.parquet").to_pylist()
    scores = {row["score"] for row in table}
    self.assertEqual(
      scores, {"R2", "accuracy", "nats", "accuracy by least squares"}
    )
    self.assertTrue((out / "figures" / "tokens.png").exists())
    self.assertIn("counts, token n", (out / "report.md").read_text())

  def test_short_sequences_are_refused_before_training(self):
    """No position has all lags behind it: one line that blames the flag."""
    done, out = self._run("--length=4")
    self.assertEqual(done.returncode, 2)
    self.assertIn("--length: must be at least 7", done.stderr)
    self.assertLen(done.stderr.strip().splitlines(), 1)
    self.assertFalse(out.exists())
