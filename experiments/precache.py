"""What is lost when nothing can be computed for the sake of later positions?

    python -m experiments.precache [--preset=smoke|cpu|paper] [--out=DIR]

Arms: causal, myopic/residual, myopic/kv and self_only on the pre-caching task
of Wu, Morris and Levine (2024), section 4, beside predicting zero. Prints and
writes the held-out Huber losses of every seed, the myopia gap, split into its
upstream and projection parts, and the verdicts on the published claims.
"""

import dataclasses
import functools
import math

from experiments.common import (
  app,
  compare_variants,
  precache_setup,
  presets,
  shared_flags,
  train_arms,
)
from jaxlook import stats
from jaxlook.stats import myopia_gap
from jaxlook.training import Problem

shared_flags.adopt(
  __name__, *shared_flags.TRAIN, *shared_flags.PRECACHE, but=("loss_tokens",)
)


def claims(
  config: precache_setup.PrecacheConfig,
  problem: Problem,
  values: dict[str, dict[int, float]],
) -> list[stats.Claim]:
  """The order of the ladder and, in the published setting, its figures."""
  found = myopia_gap.ladder_claims(
    values, precache_setup.UNIT, precache_setup.SOURCE, problem.setting
  )
  paper = precache_setup.PRESETS["paper"]
  if dataclasses.replace(config, p=paper.p, seeds=paper.seeds) != paper:
    return found
  p = problem.about["p"]
  for variant, name, low, high, words, source in (
    (
      myopia_gap.RESIDUAL,
      "W4",
      0.95,
      1.27,
      "lies in [0.95, 1.27] (the published run at p = 1 had 3 layers)",
      "notebook synthetic_interp of the published code",
    ),
    (
      myopia_gap.CAUSAL,
      "W5",
      -math.inf,
      0.10,
      "is at most 0.10",
      "notes on Wu et al. 2024, second-hand",
    ),
  ):
    losses = [loss / p for loss in values.get(variant, {}).values()]
    if len(losses) >= 2:
      found.append(
        stats.claim(
          "/".join(part for part in (problem.setting, name) if part),
          f"Huber/p of {variant} {words}",
          source,
          "Huber/p",
          stats.mean_interval(losses),
          low=low,
          high=high,
        )
      )
  return found


def main() -> None:
  """Checks the flags, then trains and reports."""
  config = precache_setup.build_config()
  problems = [precache_setup.problem(config, p) for p in config.p]
  variants = train_arms.chosen_variants(myopia_gap.LADDER, problems[0].model)
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
      claims=functools.partial(claims, config),
    )
  )


if __name__ == "__main__":
  app.run(
    main,
    lambda: presets.values(precache_setup.PRESETS, attention=myopia_gap.LADDER),
  )
