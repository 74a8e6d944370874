"""The scaling binary from end to end, at its smallest scale."""

import itertools

# The text task imports it late: its flags would go when saved ones come back.
import grain  # noqa: F401
import numpy as np
import pyarrow.parquet as pq

from experiments import scaling
from tests.fixtures import binaries


class ScalingTest(binaries.RefusalTestCase):
  def test_smoke_run_writes_what_it_promises(self):
    """Four arms of each size, fits, and the published line beside them."""
    corpus = self.root / "corpus.txt"
    corpus.write_text("the thing that they thought of, then\n" * 200)
    result, report = self.run_here(
      scaling, cache=str(self.root / "cache"), corpus=str(corpus), steps=5
    )
    variants = ("causal", "myopic/residual", "myopic/kv", "teacher/residual")
    self.assertEqual(
      {(c["setting"], c["variant"], c["seed"]) for c in result["cells"]},
      set(itertools.product(("0.9k", "3.3k"), variants, (0, 1))),
    )
    claims = {claim["id"]: claim for claim in result["claims"]}
    mean = dict.fromkeys(variants, 0.0)
    for cell in result["cells"]:
      if cell["setting"] == "3.3k":
        mean[cell["variant"]] += cell["metrics"]["loss"] / 2
    self.assertAlmostEqual(
      claims["gap/kv/3.3k"]["estimate"],
      mean["myopic/kv"] - mean["causal"],
      places=6,
    )
    self.assertEqual(
      set(claims),
      {
        f"{measure}/{what}"
        for measure in ("gap/residual", "gap/kv", "bonus/residual")
        for what in ("grows", "0.9k", "3.3k")
      }
      | {"context/0.9k", "context/3.3k"},
    )
    # The gap of what the last steps were trained on.
    self.assertIn("Gap and bonus in training losses", report)
    ends = {
      variant: np.mean(
        [
          row["loss"]
          for row in pq.read_table(
            self.root / f"run/arms/3.3k~{variant}/metrics.parquet"
          ).to_pylist()
          if row["step"] == 5
        ]
      )
      for variant in ("causal", "myopic+kv")
    }
    gap = ends["myopic+kv"] - ends["causal"]
    line = f"gap/kv at 3.3k: myopic/kv - causal | {gap:.4g} |"
    self.assertIn(line, report)
    self.assertIn("pythia-2.8b", report)
    for size in ("0.9k", "3.3k"):
      self.assertIn(f"Under-trained ({size}): causal attention (", report)
    self.assertIn("| 5-gram counts |", report)
    self.assertIn("figures/scaling.png", report)
    self.assertTrue((self.root / "run/figures/scaling.png").exists())
