"""The studies of attention-only models from end to end, at smallest scale."""

import contextlib
import io
import pathlib
import tempfile

# The text task imports it late: its flags would go when saved ones come back.
import grain  # noqa: F401
from absl.testing import flagsaver, parameterized

from experiments import path_terms, skip_trigrams
from experiments.common import app
from tests.fixtures import base, binaries


class AttentionOnlyTest(base.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )

  def _run(self, binary, **values):
    """Runs a binary's main; returns its run folder and what it printed."""
    out = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "run"
    values = {"out": str(out), "cache": str(self.root / "cache")} | values
    printed = io.StringIO()
    with (
      flagsaver.flagsaver(preset="smoke", **values),
      contextlib.redirect_stdout(printed),
    ):
      binaries.run_main(binary)
    return out, printed.getvalue()

  def test_path_terms(self):
    """Terms add up to the loss of the model; every number has its cell."""
    out, printed = self._run(path_terms, attention=["causal"])
    result = binaries.result(out)
    self.assertEqual(result["experiment"], "path_terms")
    cells = {(c["variant"], c["seed"]): c["metrics"] for c in result["cells"]}
    self.assertEqual(
      set(cells), {(v, s) for v in ("causal", "untrained") for s in (0, 1)}
    )
    for found in cells.values():
      self.assertAlmostEqual(
        found["loss up to order 0"] - found["loss up to order 2"],
        found["single heads"] + found["virtual heads of two"],
        places=5,
      )
    self.assertEqual(
      [claim["id"] for claim in result["claims"]], ["E2/order", "E2/tenth"]
    )
    self.assertIn("value composition: causal - untrained", printed)
    report = (out / "report.md").read_text()
    self.assertIn("figures/path_terms.png", report)
    self.assertTrue((out / "figures" / "path_terms.png").exists())

  def test_skip_trigrams(self):
    """Tables of the weights, their counts, and a control that never learned."""
    out, printed = self._run(skip_trigrams, attention=["myopic/kv"])
    result = binaries.result(out)
    variants = {cell["variant"] for cell in result["cells"]}
    self.assertEqual(variants, {"causal", "myopic/kv", "untrained"})
    self.assertEqual(
      [claim["id"] for claim in result["claims"]],
      [
        *("E1/majority", "E1/learned", "E1/untrained"),
        *("trigrams/true", "trigrams/rank", "trigrams/bugs", "asked/kv"),
      ],
    )
    for cell in result["cells"]:
      for name, value in cell["metrics"].items():
        if name.endswith("share"):
          self.assertBetween(value, 0.0, 1.0)
    # Two heads, four sources each, as far as the short text tells of them.
    report = (out / "report.md").read_text()
    rows = report.split("## Strongest skip-trigrams")[1].split("##")[0]
    shown = [row.split(" | ")[0] for row in rows.splitlines() if "→" in row]
    self.assertEqual(set(shown), {"| 0", "| 1"})
    self.assertLessEqual(len(shown), 8)
    self.assertIn("Bugs", printed)
    self.assertTrue((out / "figures" / "skip_trigrams.png").exists())

  @parameterized.parameters(
    (skip_trigrams, {"task": "precache"}, "^--task: must be text"),
    (path_terms, {"task": "precache"}, "^--task: must be text"),
    (skip_trigrams, {"layers": 2}, "^--layers: must be one attention-only"),
    (path_terms, {"heads": 3}, "^--heads: must divide width=16, .* not 3"),
  )
  def test_refusals(self, binary, values, message):
    """One line that names the flag, before any training."""
    with self.assertRaisesRegex(app.UsageError, message) as caught:
      self._run(binary, **values)
    self.assertLen(str(caught.exception).splitlines(), 1)
