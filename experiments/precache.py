"""What is lost when nothing can be computed for the sake of later positions?

    python -m experiments.precache [--preset=smoke|cpu|paper] [--out=DIR]

Arms: causal, myopic/residual, myopic/kv and self_only on the pre-caching task
of Wu, Morris and Levine (2024), section 4, beside predicting zero.

Writes the held-out Huber losses of every seed, the myopia gap, split into its
upstream and projection parts, and the verdicts on the published claims. `cpu`
takes about 5 minutes on two cores.
"""

import dataclasses
import functools

from experiments.common import (
  app,
  compare_variants,
  precache_setup,
  presets,
  run_folder,
  shared_flags,
  train_arms,
)
from experiments.reports import precache as report
from jaxlook.stats import myopia_gap

shared_flags.adopt(
  __name__, *shared_flags.TRAIN, *shared_flags.PRECACHE, but=("loss_tokens",)
)


def main() -> None:
  """Checks the flags, then trains what is missing and reports."""
  held = run_folder.held("precache")
  config = precache_setup.build_config(held=held)
  problems = [precache_setup.problem(config, p) for p in config.p]
  variants = train_arms.chosen_variants(
    myopia_gap.LADDER, problems[0].model, held=held
  )
  compare_variants.run(
    compare_variants.Ablation(
      name="precache",
      title="Pre-caching: the loss without gradient from later positions",
      config={"experiment": "precache", **dataclasses.asdict(config)},
      problems=problems,
      variants=variants,
      unit=precache_setup.UNIT,
      setup=precache_setup.setup(config),
      baselines=precache_setup.baselines,
      claims=functools.partial(report.claims, config),
    )
  )


if __name__ == "__main__":
  app.run(
    main,
    lambda: presets.values(precache_setup.PRESETS, attention=myopia_gap.LADDER),
  )
