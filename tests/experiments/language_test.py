"""The language binary from end to end, on the generated text."""

import pathlib
import tempfile

import numpy as np

from tests import base
from tests.experiments import running


class LanguageTest(base.TestCase):
  def test_smoke_run_writes_what_it_promises(self):
    """Losses in two units, beside counts, on a text said to be generated."""
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    done = running.run(
      "language",
      "--preset=smoke",
      f"--out={root / 'run'}",
      f"--cache={root / 'cache'}",
      "--attention=myopic/kv",
      "--attention=zero_context",
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn("a generated text", done.stdout)
    result = running.result(root / "run")
    self.assertIn("a generated text", (root / "run/report.md").read_text())
    metrics = {
      (cell["variant"], cell["seed"]): cell["metrics"]
      for cell in result["cells"]
    }
    trained = ("causal", "myopic/kv", "zero_context")
    counts = ("unigram counts", "bigram counts")
    self.assertEqual(
      set(metrics),
      {(v, seed) for v in trained for seed in (0, 1)}
      | {(c, 0) for c in counts},
    )
    for found in metrics.values():
      # The generated text is ASCII: a byte is a token.
      self.assertAlmostEqual(
        found["bits_per_byte"], found["loss"] / np.log(2.0), places=6
      )
    self.assertLess(
      metrics["bigram counts", 0]["loss"], metrics["unigram counts", 0]["loss"]
    )
    # 20 steps from ln 256: the model has begun to learn.
    self.assertLess(metrics["causal", 0]["loss"], np.log(256.0))
    claims = {claim["id"] for claim in result["claims"]}
    self.assertEqual(claims, {"gap", "bigram"})
