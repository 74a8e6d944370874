"""How far ahead must gradient come from, and through what?

    python -m experiments.horizon [--task=precache|text] [--preset=...]
        [--horizons=0,1,2,4] [--out=DIR]

Trains the dial of gradient horizons h = 0 .. N - 1 for both stop points, of
leaks, single distances, keys or values alone, and single layers blocked or
open. Writes the loss against h, the fraction of the myopia gap that each h
closes, and the smallest h that closes 90% of it. On the pre-caching task the
sines lie `--first`..`--terms` steps back, so the answer is known: between
first / layers, since each layer passes gradient h back, and terms.
"""

import dataclasses
import math

from absl import flags

from experiments.common import (
  app,
  results_writer,
  study_setup,
  train_arms,
  trained_models,
  training_flags,
)
from experiments.reports.horizon import claims, figure, tables
from jaxlook import reporting
from jaxlook.lookahead.horizon import HorizonSweep
from jaxlook.stats import myopia_gap
from jaxlook.tasks.precache import Precache
from jaxlook.training import TrainConfig

_HORIZONS = flags.DEFINE_list(
  "horizons", None, "Horizons of the dial, ascending from 0."
)

flags.adopt_module_key_flags(study_setup)

DIALS = {
  "smoke": HorizonSweep(horizons=(0, 2), leaks=(0.5,), offsets=(1,)),
  "cpu": HorizonSweep(
    horizons=(0, 1, 2, 3, 4),
    leaks=(0.1, 0.5),
    offsets=(1, 3, 4, 5),
    part_horizons=(0,),
  ),
  "paper": HorizonSweep(
    horizons=(0, 1, 2, 4, 8, 10, 16, 32),
    leaks=(0.01, 0.03, 0.1, 0.25, 0.5, 0.75),
    offsets=(1, 2, 4, 8, 10, 12, 16),
    part_horizons=(0, 1, 4, 16),
  ),
}
TEXT_DIAL = HorizonSweep(
  horizons=(0, 1, 2, 4, 8, 16),
  leaks=(0.1, 0.5),
  offsets=(1, 2, 4),
  part_horizons=(0,),
)
# Sources 3 and 4 back: out of reach for h = 1 in two layers. Learned positions
# would need gradient from yet other distances to become tellable.
PRECACHE = study_setup.PRECACHE | {
  "cpu": dataclasses.replace(
    study_setup.PRECACHE["cpu"],
    first=3,
    width=32,
    positions="rotary",
    train=TrainConfig(
      steps=600, batch_size=64, learning_rate=3e-3, eval_batches=32
    ),
  ),
  "paper": dataclasses.replace(
    study_setup.PRECACHE["paper"], first=7, positions="rotary"
  ),
}
TEXT = study_setup.TEXT | {
  "cpu": dataclasses.replace(
    study_setup.TEXT["cpu"],
    length=32,
    width=32,
    train=dataclasses.replace(study_setup.TEXT["cpu"].train, steps=400),
  )
}


def preset_dial() -> HorizonSweep:
  """The dial of preset and task."""
  preset = training_flags.PRESET.value
  if study_setup.TASK.value == "text" and preset == "cpu":
    return TEXT_DIAL
  return DIALS[preset]


def build_dial(chosen: HorizonSweep, length: int) -> HorizonSweep:
  """A dial with `--horizons`, within the sequence."""
  if _HORIZONS.value is not None:
    asked = tuple(app.numbers("horizons", _HORIZONS.value, int))
    chosen = dataclasses.replace(chosen, horizons=asked)
    if asked[-1] >= length - 1:
      raise app.UsageError(
        "horizons",
        f"must be below N - 1 = {length - 1}, which is causal, not {asked[-1]}",
      )
  return chosen.within(length)


def main() -> None:
  """Checks the flags, then trains and reports."""
  for flag in (trained_models.MODEL, training_flags.ATTENTION):
    if flag.value:
      raise app.UsageError(
        flag.name, "is given in vain: the dial trains its own"
      )
  study = study_setup.build(
    "horizon",
    "The dial: loss by how far ahead gradient may come from",
    (),
    precache=PRECACHE,
    text=TEXT,
  )
  problem = study.problem
  model = problem.model
  length, layers = model.max_length, model.layers
  chosen = build_dial(preset_dial(), length)
  study = dataclasses.replace(
    study,
    variants=chosen.variants(layers, model.heads),
    config={**study.config, "dial": dataclasses.asdict(chosen)},
  )
  with study.open_run() as store:
    todo = [(problem, variant) for variant in study.variants]
    arms = train_arms.train_all(store, todo)
    cells = [cell for arm in arms for cell in arm.cells]
    values = myopia_gap.by_variant(cells, "loss")
    seeds = f"{len(problem.seeds)} seeds"
    figure(
      store.figures / "dial.png",
      chosen,
      values,
      length,
      unit=study.unit,
      setup=f"{study.setup}; {seeds}",
    )
    reach = None
    if isinstance(problem.task, Precache):
      task = problem.task
      reach = (math.ceil(task.first / layers), task.terms)
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        cells=cells,
        claims=claims(
          chosen, values, length, reach, unit=study.unit, source=study.source
        ),
        tables=tables(chosen, values, length, layers, study.unit)
        | {
          f"Held-out loss of every arm, {study.unit}": reporting.variant_table(
            values, myopia_gap.diverged(cells), {}
          )
        },
        figures={
          "dial.png": "Held-out loss and the fraction of the gap closed: mean"
          f" and 95% t band over {seeds}; h = {length - 1} is ordinary"
          " training."
        },
      ),
    )


if __name__ == "__main__":
  app.run(main)
