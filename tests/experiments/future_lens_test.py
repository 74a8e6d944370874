"""The future lens binary from end to end, on the generated text."""

import pathlib
import tempfile

import jax.numpy as jnp
import pyarrow.parquet as pq

from experiments.reports import future_lens
from jaxlook import stats
from jaxlook.lookahead import future_lens as lens
from tests.fixtures import base, binaries


class FutureLensTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def test_smoke_run_writes_what_it_promises(self):
    """Every method, layer and tau, with its controls, figures and claims."""
    out = self.root / "run"
    done = binaries.run(
      "future_lens",
      "--preset=smoke",
      f"--out={out}",
      f"--cache={self.root / 'cache'}",
      "--attention=myopic/kv",
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    result = binaries.result(out)
    variants = ("causal", "myopic/kv")
    self.assertEqual(
      {(cell["variant"], cell["seed"]) for cell in result["cells"]},
      {(variant, seed) for variant in variants for seed in (0, 1)},
    )
    self.assertEqual(
      [claim["id"] for claim in result["claims"]],
      [
        *("F1/prompt", "F1/counts", "F1/linear", "F1/fixed"),
        *("source", "state", "gap"),
      ],
    )
    rows = pq.read_table(out / "measurements.parquet").to_pylist()
    scored = {
      (row["variant"], row["layer"], row["tau"], row["method"])
      for row in rows
      if row["sequences"] == "scored"
    }
    for variant in variants:
      for method in lens.METHODS:
        for tau in (1, 2, 3):
          for layer in (0, 1):
            self.assertIn((variant, layer, tau, method), scored)
    own = [
      row["value"]
      for row in rows
      if row["method"] == lens.ON_TEXT and row["score"] == "agreement"
    ]
    self.assertEqual(set(own), {1.0})
    report = (out / "report.md").read_text()
    for figure in ("layers.png", "variants.png"):
      self.assertIn(f"figures/{figure}", report)
      self.assertTrue((out / "figures" / figure).exists())
    self.assertIn(lens.SHUFFLED, done.stdout)

  def test_a_task_without_tokens_is_one_line(self):
    """Refused by name, before anything is written."""
    out = self.root / "run"
    done = binaries.run("future_lens", "--task=precache", f"--out={out}")
    self.assertEqual(done.returncode, 2)
    self.assertIn(
      "--task: must be text: this binary studies tokens", done.stderr
    )
    self.assertLen(done.stderr.strip().splitlines(), 1)
    self.assertFalse(out.exists())


class ClaimsTest(base.TestCase):
  def test_verdicts_follow_the_differences(self):
    """A positive difference supports, a negative one contradicts."""
    above = stats.compare({0: 0.3, 1: 0.4}, {0: 0.2, 1: 0.301})
    below = stats.compare({0: 0.2, 1: 0.301}, {0: 0.3, 1: 0.4})
    found = future_lens.claims(
      {
        f"{lens.LEARNED} - {lens.LOGITS}": above,
        f"{lens.LEARNED} - {lens.SHUFFLED}": above,
      },
      {f"{lens.LEARNED} - {lens.LOGITS}": below},
    )
    self.assertEqual(
      {claim.id: claim.verdict for claim in found},
      {"F1/prompt": "contradicted", "source": "supported"},
    )

  def test_one_seed_claims_nothing(self):
    """An interval over seeds needs two."""
    self.assertEmpty(future_lens.claims({}, {}))

  def test_table_gives_no_interval_to_one_seed(self):
    """A row for every tau and method, with a dash for the interval."""
    one = lens.MethodScores(*jnp.full((2, 1, 2, 3), 0.25))
    measured = lens.LensResults(
      {name: one for name in (lens.LEARNED, lens.LOGITS, lens.HIDDEN)},
      {name: one for name in lens.METHODS},
    )
    head, *rows = future_lens.score_table(measured, horizon=3)
    self.assertLen(rows, 3 * len(lens.METHODS))
    for row in rows:
      named = dict(zip(head, row, strict=False))
      self.assertEqual((named["accuracy"], named["95% t"]), ("0.25", "-"))
