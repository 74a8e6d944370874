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

from absl import flags

from experiments.common import (
  app,
  horizon_setup,
  results_writer,
  study_setup,
  train_arms,
  trained_models,
  training_flags,
)
from experiments.reports import horizon as report

flags.adopt_module_key_flags(study_setup)
flags.adopt_module_key_flags(horizon_setup)


def main() -> None:
  """Checks the flags, then trains and reports."""
  for flag in (trained_models.MODEL, training_flags.ATTENTION):
    if flag.value:
      raise app.UsageError(flag.name, "has no effect here: the arms are fixed")
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
        store.figures,
        study,
        sweep,
        [cell for arm in arms for cell in arm.cells],
        horizon_setup.reach(study),
      ),
    )


if __name__ == "__main__":
  app.run(main)
