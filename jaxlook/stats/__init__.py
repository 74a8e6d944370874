"""Statistics over seeds.

intervals   means and paired differences over seeds, with 95% intervals
claims      statements about numbers, and the verdicts that intervals give
power       how many seeds would settle a claim
myopia_gap  the gap between causal and myopic models, its parts, its claims
"""

from jaxlook.stats.claims import Claim, claim, verdict
from jaxlook.stats.intervals import (
  BOOTSTRAP_RESAMPLES,
  BOOTSTRAP_SEED,
  Comparison,
  Interval,
  compare,
  comparison_table,
  holm,
  mean_interval,
  paired_by_seed,
  unpaired,
)
from jaxlook.stats.power import seeds_needed

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
  "seeds_needed",
  "unpaired",
  "verdict",
]
