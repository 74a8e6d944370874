"""The path-star binary from end to end, and what it refuses."""

import pyarrow.parquet as pq
from absl.testing import flagsaver, parameterized

from experiments import path_star
from experiments.common import train_arms
from experiments.setups import path_star_setup
from jaxlook.tasks.path_star_weights import PathStarWeights
from tests.fixtures import binaries


class PathStarTest(binaries.StudyTestCase):
  def test_smoke(self):
    """One arm in the weights, with every measure, claim and figure."""
    result = self.run_study(
      "path_star", "--setting=weights", "--attention=causal"
    )
    self.assertEqual(
      [(cell["variant"], cell["seed"]) for cell in result["cells"]],
      [("causal", 0), ("causal", 1)],
    )
    for cell in result["cells"]:
      self.assertEqual(cell["setting"], "weights")
      metrics = cell["metrics"]
      self.assertContainsSubset(
        {"loss", "first_step", "path_written", "beam_gain"}, metrics
      )
      # Greedy writing goes wrong exactly where forcing does.
      self.assertAlmostEqual(metrics["path_forced"], metrics["path_written"])
    ids = {claim["id"] for claim in result["claims"]}
    self.assertContainsSubset(
      {"B4/weights", "B4/weights/above_chance", "weights/swap/answer/causal"},
      ids,
    )
    self.assertLen(list(self.out.glob("figures/*.png")), 2)
    rows = pq.read_table(self.out / "measurements.parquet").to_pylist()
    # With its own stream put in a model writes what it writes anyway: the last
    # of the three steps of `moved` and `left` is the whole answer.
    for measure in ("moved", "left"):
      for cell in result["cells"]:
        values = [
          row["value"]
          for row in rows
          if (row["measure"], row["place"]) == (measure, "self: everywhere")
          and (row["leaves"], row["seed"]) == ("held out", cell["seed"])
          and row["step"] == 3
        ]
        self.assertEqual(values, [cell["metrics"]["path_written"]] * 2)


class RefusalTest(binaries.RefusalTestCase):
  @parameterized.parameters(
    ({"length": 9}, "^--length: has no effect on this binary"),
    ({"heads": 3}, "^--heads: must divide width=16, .* not 3"),
    ({"steps": 0}, "^--steps: must be at least 1"),
    ({"microbatches": 3}, "^--microbatches: must divide batch_size=4"),
    ({"attention": ["window:2"]}, "^--attention: 'window:2' changes the forw"),
    ({"attention": ["zero_context"]}, "^--attention: 'zero_context' changes"),
    ({"attention": ["self_only"]}, "^--attention: 'self_only' changes the"),
    ({"attention": ["teacher"]}, "^--attention: 'teacher' needs a teacher"),
  )
  def test_refusals(self, values, message):
    """Each bad value is one line that names its flag, before any training."""
    self.refuse(path_star, message, **values)

  def test_flags_reach_both_trainings(self):
    """What is said of training holds in context and in the weights."""
    with flagsaver.flagsaver(
      **{"preset": "smoke", "steps": 8, "microbatches": 2, "loss_tokens": 5},
      **{"bfloat16": True, "remat": True},
    ):
      config = path_star_setup.build_config(settings=None)
    for train in (config.train, config.train_weights):
      self.assertEqual((train.steps, train.microbatches), (8, 2))
      self.assertEqual(train.loss_tokens, 5)
      self.assertTrue(train.bfloat16 and train.remat)

  def test_attention_is_trained_in_every_setting(self):
    """Cuts are left out of some settings, but not where they are named."""
    config = path_star_setup.PRESETS["cpu"]
    problems = [
      path_star_setup.problem(config, each) for each in config.settings
    ]
    variants = train_arms.named_variants(
      ["causal", "horizon:1/kv"], problems[0].model
    )
    for everywhere, more in ((False, 3), (True, 6)):
      todo = path_star_setup.arms_to_train(
        problems, variants, compare_everywhere=everywhere
      )
      self.assertLen(todo, 6 + more)

  def test_paper_has_the_published_size(self):
    """As many nodes in the weights as published, in the largest graph."""
    graphs = path_star_setup.PRESETS["paper"].graphs
    task = graphs.task("weights")
    self.assertIsInstance(task, PathStarWeights)
    self.assertEqual(task.nodes, 5 * 10**4 + 1)
