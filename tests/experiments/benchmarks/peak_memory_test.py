"""Fresh processes that measure, and what they say where they cannot."""

from unittest import mock

from experiments.benchmarks import attention_peak, peak_memory
from experiments.benchmarks.attention_contenders import AttentionShape
from tests.fixtures import base

_MODULE = "experiments.benchmarks.attention_peak"


class PeakMemoryTest(base.TestCase):
  def test_a_process_that_fails_says_why(self):
    """Its exit status and the last line of its error."""
    found, error = peak_memory.run_module(
      _MODULE, ["causal", "1x2x3", "float32"]
    )
    self.assertIsNone(found)
    self.assertStartsWith(error, "exit status 1: ValueError: a shape is BATCHx")

  def test_a_process_that_takes_too_long_is_stopped(self):
    """And the report says after how long."""
    with mock.patch.object(peak_memory, "_TIMEOUT_SECONDS", 0.01):
      found = attention_peak.measure(
        "causal", AttentionShape(1, 4, 1, 4), "float32"
      )
    self.assertIsNone(found["peak_bytes"])
    self.assertEqual(found["method"], "stopped after 0.01 s")
