"""The scaling binary from end to end, at its smallest scale."""

import itertools

from tests.experiments import running


class ScalingTest(running.StudyTestCase):
  def test_smoke_run_writes_what_it_promises(self):
    """Four arms of each size, fits, and the published line beside them."""
    result = self.run_study("scaling", f"--cache={self.root / 'cache'}")
    variants = ("causal", "myopic/residual", "myopic/kv", "teacher/residual")
    self.assertEqual(
      {(c["setting"], c["variant"], c["seed"]) for c in result["cells"]},
      set(itertools.product(("0.9k", "3.3k"), variants, (0, 1))),
    )
    claims = {claim["id"]: claim for claim in result["claims"]}
    loss = {
      (c["setting"], c["variant"]): c["metrics"]["loss"]
      for c in result["cells"]
      if c["seed"] == 0
    }
    other = {
      (c["setting"], c["variant"]): c["metrics"]["loss"]
      for c in result["cells"]
      if c["seed"] == 1
    }
    gaps = [
      of["3.3k", "myopic/kv"] - of["3.3k", "causal"] for of in (loss, other)
    ]
    self.assertAlmostEqual(
      claims["gap/kv/3.3k"]["estimate"], sum(gaps) / 2, places=6
    )
    # No power law through two points.
    self.assertEqual(
      set(claims),
      {
        f"{measure}/{what}"
        for measure in ("gap/residual", "gap/kv", "bonus/residual")
        for what in ("grows", "0.9k", "3.3k")
      },
    )
    report = (self.out / "report.md").read_text()
    self.assertIn("pythia-2.8b", report)
    self.assertTrue((self.out / "figures/scaling.png").exists())
