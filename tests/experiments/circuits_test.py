"""The studies of circuits from end to end, at their smallest scale."""

from absl.testing import absltest

from tests.fixtures import binaries


class CircuitsTest(binaries.StudyTestCase):
  def test_induction(self):
    """Every arm and the one-layer control, followed along training."""
    result = self.run_study("induction", "--attention=myopic")
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
