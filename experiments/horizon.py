"""How far ahead must gradient come from, and through what?

    python -m experiments.horizon [--task=precache|text]
        [--preset=smoke|cpu|paper] [--horizons=0,1,2,4] [--out=DIR]

Arms: gradient horizons h = 0 .. N - 1 for both stop points, leaks, single
distances, keys or values alone, and single layers blocked or open. Writes the
loss against h, the fraction of the myopia gap that each h closes, and the
smallest h that closes 90% of it.

On the pre-caching task the sines lie `--first`..`--terms` steps back, so the
answer is known: it lies between first / layers, since each layer passes
gradient h back, and terms.
"""

import dataclasses

from experiments.common import (
  app,
  results_writer,
  shared_flags,
  study_setup,
  train_arms,
)
from experiments.reports import horizon as report
from experiments.setups import horizon_setup

shared_flags.adopt(
  __name__, *shared_flags.STUDY, "horizons", but=("attention", "model", "step")
)


def main() -> None:
  """Checks the flags, then trains and reports."""
  study = study_setup.build(
    "horizon",
    "The dial: loss by how far ahead gradient may come from",
    (),
    precache=horizon_setup.PRECACHE,
    text=horizon_setup.TEXT,
  )
  model = study.problem.model
  sweep = horizon_setup.build_sweep(
    horizon_setup.preset_sweep(), model.max_length
  )
  study = dataclasses.replace(
    study, variants=sweep.variants(model.layers, model.heads)
  ).with_config(dial=dataclasses.asdict(sweep))
  with study.open_run() as store:
    arms = train_arms.train_all(
      store, [(study.problem, variant) for variant in study.variants]
    )
    results_writer.write(
      store,
      report.results(
        study,
        sweep,
        [cell for arm in arms for cell in arm.cells],
        horizon_setup.reach(study),
      ),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(
      precache=horizon_setup.PRECACHE,
      text=horizon_setup.TEXT,
      horizons=horizon_setup.preset_sweep().horizons,
    ),
    says=study_setup.TRAINING_SAYS,
  )
