"""Placebo comparisons as `experiments.placebo` runs them: scales, repetitions.

Not a binary.
"""

import dataclasses

from experiments.common import precache_setup
from jaxlook.training import TrainConfig

REPETITIONS = {
  "smoke": 10,
  # With so many, intervals of 95% pass the claim with a probability of 0.97.
  "cpu": 1000,
  "paper": 10_000,
}
"""Number of comparisons by preset."""

_TINY = dataclasses.replace(
  precache_setup.PRESETS["smoke"],
  seeds=4,
  train=TrainConfig(
    steps=100, batch_size=8, learning_rate=1e-2, eval_batches=16
  ),
)
PRESETS = {
  "smoke": dataclasses.replace(
    _TINY, train=dataclasses.replace(_TINY.train, steps=5)
  ),
  # The question is about intervals, so more scale is more repetitions.
  "cpu": _TINY,
  "paper": _TINY,
}
"""Scales of the pre-caching task."""
