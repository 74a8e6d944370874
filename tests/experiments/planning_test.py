"""The planning binaries, run as a user does."""

import pyarrow.parquet as pq
from absl.testing import flagsaver, parameterized

from experiments import deferred, planning
from experiments.setups import planning_setup
from tests.fixtures import base, binaries


class PlanningTest(binaries.StudyTestCase):
  def test_smoke(self):
    """Everything that was asked is there, for each variant and seed."""
    result = self.run_study("planning", "--attention=myopic/kv")
    cells = {(cell["variant"], cell["seed"]) for cell in result["cells"]}
    self.assertEqual(
      cells, {(v, s) for v in ("causal", "myopic/kv") for s in (0, 1)}
    )
    self.assertIn("loss/RHY/m1", result["cells"][0]["metrics"])
    claims = {claim["id"]: claim for claim in result["claims"]}
    self.assertContainsSubset(
      {
        "bottleneck/bound",
        "bottleneck/free",
        "bottleneck/myopic/kv/gap/RHY",
        "bottleneck/swap/NL",
        "bottleneck/control/same",
      },
      claims,
    )
    # 20 steps teach nobody to plan.
    self.assertEqual(claims["bottleneck/bound"]["verdict"], "contradicted")
    table = pq.read_table(self.out / "measurements.parquet").to_pylist()
    floor = [
      row["value"]
      for row in table
      if row["measure"] == "swap/other class/none/layer1/topic/shift/RHY"
    ]
    self.assertEqual(floor, [0.0] * 4)

  def test_deferred(self):
    """Both ends of the sweep and the horizon between, at one depth."""
    result = self.run_study("deferred")
    variants = {cell["variant"] for cell in result["cells"]}
    self.assertEqual(
      variants,
      {"causal"}
      | {f"horizon:{h}/{s}" for h in (0, 1) for s in ("kv", "residual")},
    )
    ids = [claim["id"] for claim in result["claims"]]
    self.assertContainsSubset(
      ["2 layers/kv/gap", "2 layers/learned", "2 layers/residual/whole"], ids
    )


class RefusalTest(binaries.RefusalTestCase):
  @parameterized.parameters(
    (planning, {"length": 9}, "^--length: has no effect on this binary"),
    (planning, {"attention": ["window:2"]}, "^--attention: .*window:2"),
    (planning, {"layers": 1}, "^--layers: must be at least 2"),
    (planning, {"pairs": 5}, "^--pairs: needs --key=tally"),
    (planning, {"key": "tally", "pairs": 4}, "^--pairs: must be odd"),
    (planning, {"language": ["shut"]}, "^--language: must be one of"),
    (
      planning,
      {"language": ["open/early"]},
      "^--language: 'open/early' has the unk",
    ),
    (planning, {"p": ["0"]}, "^--p: must be above 0"),
    (planning, {"p": ["2"]}, r"^--p: must lie in \[0, 1\]"),
    (planning, {"heads": 3}, "^--heads: must divide width=16, .* not 3"),
    (deferred, {"delay": -1}, "^--delay: must be at least 0"),
    (deferred, {"length": 3}, "^--length: must be at least 4"),
    (deferred, {"layers": 3}, "^--layers: has no effect on this"),
    (
      deferred,
      {"attention": ["myopic"]},
      "^--attention: has no effect on this",
    ),
    (deferred, {"horizons": ["1"]}, "^--horizons: must begin with 0"),
  )
  def test_refuses(self, binary, values, message):
    """Each bad value is one line that names its flag; nothing is trained."""
    self.refuse(binary, message, **values)


class ConfigTest(base.TestCase):
  def test_languages(self):
    """A sweep of p over two forms; names tell what differs."""
    with flagsaver.flagsaver(preset="smoke"):
      config = planning_setup.build_config(
        "tally", forms=["open", "open/late_genre"], shares=["0.25", "1"]
      )
    names = [planning_setup.name(each, config) for each in config.languages]
    self.assertEqual(
      names,
      [
        "open p=0.25",
        "open p=1",
        "open/late_genre p=0.25",
        "open/late_genre p=1",
      ],
    )
    self.assertEqual({each.pairs for each in config.languages}, {3})
