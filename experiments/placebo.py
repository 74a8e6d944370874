"""Do the intervals cover as often as they promise?

    python -m experiments.placebo [--preset=smoke|cpu|paper] [--seeds=4]
        [--repetitions=1000] [--out=DIR]

Compares causal training with itself on another data order, paired by initial
weights, in many repetitions with tiny models on the pre-caching task. There is
nothing to find, so 95% of the comparisons should come out "inconclusive".
"""

import dataclasses
import math

import numpy as np
import pyarrow as pa
from absl import flags

from experiments.common import (
  app,
  precache_setup,
  presets,
  results_writer,
  shared_flags,
  study_setup,
)
from jaxlook import reporting, stats
from jaxlook.lookahead import placebo
from jaxlook.models import Decoder
from jaxlook.stats import myopia_gap
from jaxlook.training import TrainConfig

shared_flags.adopt(
  __name__,
  "preset",
  "seeds",
  "out",
  *shared_flags.SHAPE,
  *shared_flags.TRAINING,
  *shared_flags.PRECACHE,
  but=("loss_tokens",),
)

_REPETITIONS = flags.DEFINE_integer(
  "repetitions", None, "Number of comparisons.", lower_bound=1
)


# The rates that count as 95%; 1000 repetitions show 95% to be one of them
# with a probability of 0.97.
_NOMINAL = (0.92, 0.98)
REPETITIONS = {"smoke": 10, "cpu": 1000, "paper": 10_000}
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
  "cpu": _TINY,
  "paper": _TINY,
}


def claim(kind: str, found: placebo.Coverage) -> stats.Claim:
  """Whether one kind of interval covers at its nominal rate."""
  low, high = _NOMINAL
  return stats.claim(
    kind,
    f"the 95% {kind} interval of a difference that is zero holds zero in"
    f" {low:.0%} to {high:.0%} of the repetitions; n counts repetitions",
    "jaxlook's own",
    "rate",
    found.interval,
    low=low,
    high=high,
  )


def main() -> None:
  """Checks the flags, then trains and reports."""
  study = study_setup.build(
    "placebo", "Placebo: causal against causal", (), precache=PRESETS
  )
  problem = study.problem
  repetitions = _REPETITIONS.value or presets.chosen(REPETITIONS)
  study = dataclasses.replace(
    study, config={**study.config, "repetitions": repetitions}
  )
  with study.open_run() as store:
    losses = placebo.final_losses(
      Decoder(problem.model),
      problem.task,
      problem.train,
      repetitions,
      len(problem.seeds),
    )
    differences = losses[0] - losses[1]
    counts = placebo.coverage(losses)
    rows = [
      ["interval", "holds zero", "above zero", "below zero", "rate", "95%", "n"]
    ]
    for kind, found in counts.items():
      rate = found.interval
      rows.append(
        [
          kind,
          *map(str, (found.covered, found.above, found.below)),
          reporting.number(rate.estimate),
          reporting.interval(rate.ci95),
          str(rate.n),
        ]
      )
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        claims=[claim(kind, found) for kind, found in counts.items()],
        tables={"Cover": rows},
        cells=results_writer.seed_cells(
          {
            myopia_gap.CAUSAL: {
              seed: {
                "loss": float(np.nanmean(losses[0, :, seed])),
                "loss_other_order": float(np.nanmean(losses[1, :, seed])),
              }
              for seed in problem.seeds
            }
          }
        ),
        measurements=pa.table(
          {
            "repetition": np.repeat(np.arange(repetitions), losses.shape[2]),
            "seed": np.tile(np.arange(losses.shape[2]), repetitions),
            "loss": losses[0].reshape(-1),
            "loss_other_order": losses[1].reshape(-1),
          }
        ),
        notes=(
          f"The differences have a standard deviation of"
          f" {math.sqrt(np.nanvar(differences)):.2g} {study.unit}; their mean"
          f" over {differences.size} pairs is {np.nanmean(differences):.2g}.",
          "Cells are means over repetitions.",
        ),
      ),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: presets.values(PRESETS, repetitions=presets.chosen(REPETITIONS)),
  )
