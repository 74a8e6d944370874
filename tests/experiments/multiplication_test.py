"""The study of products from end to end."""

import pyarrow.parquet as pq
from absl.testing import absltest

from tests.fixtures import binaries


class MultiplicationTest(binaries.StudyTestCase):
  def test_smoke(self):
    """Both settings, all their measures, and the claims of the table."""
    result = self.run_study("multiplication", "--attention=myopic/residual")
    self.assertLen(result["cells"], 2 * 2 * 2)
    checked = 0
    for cell in result["cells"]:
      self.assertEqual(cell["status"], "done")
      pad = int(cell["setting"].removeprefix("pad="))
      self.assertContainsSubset(
        {"right", "whole", "loss", "beam_gain", "probe", "probe_shuffled"},
        cell["metrics"],
      )
      self.assertBetween(cell["metrics"]["whole"], 0.0, 1.0)
      self.assertGreater(cell["metrics"]["loss"], 0.0)
      moved = {name for name in cell["metrics"] if name.startswith("moved ")}
      # A model may write the same for every product: then nothing can move.
      if moved:
        self.assertIn("moved b", moved)
        self.assertEqual("moved padding of b" in moved, pad > 0)
        checked += 1
    self.assertGreater(checked, 0)
    self.assertContainsSubset(
      {
        "W8/padding/causal",
        "W8/padding/myopic/residual",
        "W8/gap/pad=0/myopic/residual",
        "W8/interaction/myopic/residual",
        "probe/less/myopic/residual",
      },
      {claim["id"] for claim in result["claims"]},
    )
    self.assertLen(list(self.out.glob("figures/*.png")), 3)
    table = pq.read_table(self.out / "measurements.parquet").to_pydict()
    self.assertEqual(set(table["setting"]), {"pad=0", "pad=2"})
    self.assertEqual(
      set(table["measure"]), {"moved", "left", "probe", "shuffled"}
    )


if __name__ == "__main__":
  absltest.main()
