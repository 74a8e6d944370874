"""The attention benchmark's figure, from made-up samples."""

import numpy as np

from experiments.benchmarks import attention_report
from experiments.benchmarks.attention_contenders import AttentionShape
from experiments.benchmarks.attention_measures import AttentionMeasures
from experiments.benchmarks.peak_memory import MIB
from tests.fixtures import base
from tests.fixtures.benchmarks import samples

SHORT, LONG = AttentionShape(2, 16, 2, 8), AttentionShape(1, 64, 2, 8)


class AttentionReportTest(base.TestCase):
  def test_panels_are_sorted_by_length(self):
    """Times are per sequence and head; what was left out is not a number."""
    found = AttentionMeasures(
      times={
        LONG: {"causal": samples([0.2, 0.4])},
        SHORT: {"causal": samples([0.04, 0.08]), "other": samples([0.4, 0.4])},
      }
    )
    (panel,) = attention_report.panels(found)
    self.assertEqual(panel.x, [16, 64])
    np.testing.assert_allclose(panel.curves["causal"], [[10, 20], [100, 200]])
    np.testing.assert_allclose(
      panel.curves["other"], [[100, 100], [np.nan] * 2]
    )
    self.assertEqual((panel.yscale, panel.spread), ("log", "quartiles"))

  def test_memory_has_a_panel_where_it_was_measured(self):
    """A process without a peak leaves a gap, and so does a contender."""

    def process(peak):
      return {"peak_bytes": peak, "temp_bytes": None, "method": ""}

    found = AttentionMeasures(
      memory={
        SHORT: {"causal": [process(2 * MIB), process(None)]},
        LONG: {"causal": [process(4 * MIB), process(8 * MIB)]}
        | {"other": [process(None)] * 2},
      }
    )
    (panel,) = attention_report.panels(found)
    self.assertEqual(panel.title, "peak memory, 1xNx2x8, 2xNx2x8")
    self.assertEqual(list(panel.curves), ["causal"])
    np.testing.assert_allclose(panel.curves["causal"], [[2, np.nan], [4, 8]])
    self.assertEqual(panel.spread, "range")
