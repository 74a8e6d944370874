"""The attention benchmark from end to end, at its smallest."""

from absl import flags
from absl.testing import flagsaver, parameterized

from experiments.benchmarks import attention, attention_contenders
from tests.fixtures.benchmarks import BenchmarkTestCase


class AttentionTest(BenchmarkTestCase):
  def test_attention(self):
    """Every contender has times, one has its memory, and ratios are shown."""
    printed = self.run_binary(attention, shapes=["1x32x1x4"])
    result, measured = self.check_files("attention.png")
    self.assertEqual(result["experiment"], "benchmarks.attention")
    self.assertEqual(result["config"]["shapes"], ["1x32x1x4"])
    times = {
      cell["variant"]: cell["metrics"]
      for cell in result["cells"]
      if cell["setting"] == "time 1x32x1x4"
    }
    self.assertContainsSubset(
      (
        *attention_contenders.OURS,
        attention_contenders.JAX_NN,
        attention_contenders.TWO_PATHS,
      ),
      times,
    )
    self.assertEqual(list(times), result["config"]["contenders"])
    for metrics in times.values():
      self.assertGreater(metrics["median_ms"], 0.0)
      self.assertEqual(metrics["rounds"], 2)
    memory = [c for c in result["cells"] if c["setting"] == "memory 1x16x2x8"]
    self.assertLen(memory, 1)
    self.assertEqual(memory[0]["metrics"]["processes"], 1)
    self.assertGreaterEqual(memory[0]["metrics"]["peak_mib"], 0.0)
    self.assertEqual(measured.num_rows, 2 * len(times) + 1)
    self.assertIn("over jax.nn causal", printed)
    self.assertIn(
      "myopic / causal <= 0.85 at 1x32x1x4", [c["id"] for c in result["claims"]]
    )

  @parameterized.parameters(
    ({"shapes": ["1x2x3"]}, "^--shapes: a shape is BATCHx"),
    ({"shapes": []}, "^--shapes: needs at least one"),
    ({"memory_shapes": ["x"]}, "^--memory_shapes: a shape is"),
    ({"out": "/proc/run"}, "^--out: cannot write"),
  )
  def test_refusals(self, values, message):
    """Bad shapes and folders are refused by the flag's name."""
    self.refuse(attention, message, **values)

  @parameterized.parameters(
    ("preset", "huge"), ("dtype", "float128"), ("rounds", "1")
  )
  def test_values_that_flags_know(self, name, value):
    """Unknown presets and dtypes, and a single round, are refused by absl."""
    with (
      self.assertRaisesRegex(flags.IllegalFlagValueError, f"--{name}="),
      flagsaver.as_parsed(**{name: value}),
    ):
      pass
