"""The benchmark of step memory from end to end, at its smallest."""

from experiments.benchmarks import (
  step_memory,
  step_memory_peak,
  step_memory_report,
)
from tests.fixtures import binaries
from tests.fixtures.benchmarks import BenchmarkTestCase


class StepMemoryTest(BenchmarkTestCase):
  def test_step_memory(self):
    """Every part has its bytes, and the step ran."""
    printed = self.run_binary(step_memory)
    result = binaries.result(self.out)
    self.assertEqual(result["experiment"], "benchmarks.step_memory")
    self.assertTrue((self.out / "figures/memory.png").exists())
    self.assertLen(result["cells"], 2)
    for cell in result["cells"]:
      found = cell["metrics"]
      total = 2 * found["params"] + found["optimizer"] + found["activations"]
      self.assertEqual(found["paper"], total)
      self.assertGreater(found["peak"], found["params"] + found["optimizer"])
    self.assertIn("and blocks again", printed)

  def test_a_step_that_does_not_fit(self):
    """It is compiled, and the report says how much memory it needs."""
    size = step_memory.PRESETS["smoke"].long
    case = step_memory_peak.Case(step_memory.PLAIN, size)
    text = step_memory_peak.to_json(case, limit=100)
    found = step_memory_peak.measure_here(*step_memory_peak.from_json(text))
    self.assertIsNone(found.peak)
    self.assertRegex(found.method, "not run: needs .* of 9.31e-08 GiB")
    rows = step_memory_report.table(
      {(size, "plain"): found, (size, "other"): "why"}
    )
    self.assertEqual([row[-1] for row in rows[1:]], [found.method, "why"])

  def test_refusals(self):
    """A window without positions is refused."""
    message = "^--length: must be at least 1, not 0"
    self.refuse(step_memory, message, length=0)
