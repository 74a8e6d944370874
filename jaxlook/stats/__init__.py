"""Statistics: intervals over seeds, claims with verdicts, the myopia gap."""

from jaxlook.stats.intervals import (
  BOOTSTRAP_RESAMPLES,
  BOOTSTRAP_SEED,
  Claim,
  Comparison,
  Interval,
  claim,
  compare,
  comparison_table,
  holm,
  mean_interval,
  paired_by_seed,
  verdict,
)

__all__ = [
  "BOOTSTRAP_RESAMPLES",
  "BOOTSTRAP_SEED",
  "Claim",
  "Comparison",
  "Interval",
  "claim",
  "compare",
  "comparison_table",
  "holm",
  "mean_interval",
  "paired_by_seed",
  "verdict",
]
