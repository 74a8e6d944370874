"""The studies of circuits from end to end, at their smallest scale."""

import pathlib
import tempfile

from absl.testing import absltest

from tests import base
from tests.experiments import running


class CircuitsTest(base.TestCase):
  def setUp(self):
    super().setUp()
    root = self.enterContext(tempfile.TemporaryDirectory())
    self.out = pathlib.Path(root) / "run"

  def _run(self, name, *arguments):
    """Runs a study and returns its checked result."""
    arguments = ("--preset=smoke", f"--out={self.out}", *arguments)
    done = running.run(name, *arguments)
    self.assertEqual(done.returncode, 0, done.stderr)
    result = running.result(self.out)
    self.assertEqual(result["experiment"], name)
    report = (self.out / "report.md").read_text()
    for figure in self.out.glob("figures/*"):
      self.assertIn(f"figures/{figure.name}", report)
    return result

  def test_induction(self):
    """Every arm and the one-layer control, followed along training."""
    result = self._run("induction", "--attention=myopic")
    arms = {(c["variant"], c.get("setting")) for c in result["cells"]}
    self.assertEqual(
      arms, {("causal", "1 layer"), ("causal", None), ("myopic/kv", None)}
    )
    for cell in result["cells"]:
      self.assertBetween(cell["metrics"]["prefix"], 0.0, 1.0)
    self.assertContainsSubset(
      {"O2/deep", "O2/one", "O1/phase", "myopic/kv/forms"},
      {claim["id"] for claim in result["claims"]},
    )


if __name__ == "__main__":
  absltest.main()
