"""Statistics over seeds, and over windows of text.

intervals   means and paired differences over seeds, with 95% intervals
claims      statements about numbers, and the verdicts that intervals give
two_way     intervals for random seeds and random windows of text
crossed     simulated seeds and windows, to test such intervals
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
from jaxlook.stats.two_way import TwoWay, over_sequences, two_way_interval

__all__ = [
  "BOOTSTRAP_RESAMPLES",
  "BOOTSTRAP_SEED",
  "Claim",
  "Comparison",
  "Interval",
  "TwoWay",
  "claim",
  "compare",
  "comparison_table",
  "holm",
  "mean_interval",
  "over_sequences",
  "paired_by_seed",
  "seeds_needed",
  "two_way_interval",
  "unpaired",
  "verdict",
]
