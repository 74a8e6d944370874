"""Who asks for what: the gradient to keys and values, taken apart.

    python -m experiments.gradient_anatomy [--task=precache|text]
        [--model=RUN|DIR [--step=N]] [--preset=...] [--out=DIR]

Takes models after ordinary and myopic training, and before it, and splits the
gradient to keys, values, W_K and W_V by distance; draws how much each loss
depends on each position; cuts attention edges to see for whom keys work; and
follows the angle of the myopic and the future gradient along training.
"""

import dataclasses
from collections.abc import Mapping

from absl import flags

from experiments.common import app, results_writer, study_setup, trained_models
from experiments.reports import gradient_anatomy as anatomy
from experiments.reports import gradient_anatomy_figures
from jaxlook.lookahead import gradient_anatomy
from jaxlook.stats import myopia_gap
from jaxlook.training import held_out_batch

flags.adopt_module_key_flags(study_setup)

_SEQUENCES = flags.DEFINE_integer(
  "sequences", None, "Held-out sequences to measure on.", lower_bound=1
)
ARMS = (myopia_gap.CAUSAL, myopia_gap.KV)


def keeping(presets: Mapping, kept: Mapping[str, tuple[int, ...]]) -> dict:
  """The presets with checkpoints along training."""
  return {
    name: dataclasses.replace(
      config,
      train=dataclasses.replace(
        config.train, log_every=min(kept[name]), keep_steps=kept[name]
      ),
    )
    for name, config in presets.items()
  }


_KEPT = {
  "smoke": (5, 10, 20),
  "cpu": (10, 20, 40, 80, 160, 320, 600),
  "paper": (50, 100, 200, 400, 800, 1600, 3200, 6400),
}
PRECACHE = keeping(study_setup.PRECACHE, _KEPT)
TEXT = keeping(study_setup.TEXT, _KEPT)


def main() -> None:
  """Checks the flags, trains what is missing, measures and reports."""
  study = study_setup.build(
    "gradient_anatomy",
    "Gradient anatomy: who asks for what",
    ARMS,
    precache=PRECACHE,
    text=TEXT,
  )
  # Those of text are longer, and its losses wider.
  sequences = _SEQUENCES.value or (32 if study.on_text else 128)
  study = dataclasses.replace(
    study, config={**study.config, "sequences": sequences}
  )
  task = study.problem.task
  batch = held_out_batch(study.problem, sequences)
  with study.open_run() as store:
    subjects = study.subjects(store)
    left_out = [
      each.variant
      for each in subjects
      if not each.decoder.variant.keeps_forward
    ]
    # Of others, ordinary gradients are not the gradients of their function.
    subjects = [each for each in subjects if each.decoder.variant.keeps_forward]
    if not subjects:
      raise app.UsageError("attention", "no arm keeps the forward pass")
    first = subjects[0]
    subjects.append(first.untrained())
    found = {
      each.variant: gradient_anatomy.measure_anatomy(
        each.decoder, task, each.params, batch
      )
      for each in subjects
    }
    steps: dict[int, trained_models.Subject] = {0: subjects[-1]}
    early = None
    if first.arm is None or trained_models.STEP.value is not None:
      steps[trained_models.STEP.value or 0] = first
    else:
      train = first.arm.train
      steps |= {step: first.at(step) for step in train.keep_steps}
      steps[train.steps] = first
      # A sixteenth of training: past the warm-up, far from the end.
      early = min(step for step in steps if step * 16 >= train.steps)
    directions = {
      step: gradient_anatomy.measure_directions(
        each.decoder, task, each.params, batch
      )
      for step, each in steps.items()
    }
    setup = (
      f"{study.setup}; {len(batch.inputs)} held-out sequences,"
      f" {len(first.seeds)} seeds"
    )
    drawn = {"title": study.title, "setup": setup}
    folder = store.figures
    gradient_anatomy_figures.share_figure(folder / "shares.png", found, **drawn)
    gradient_anatomy_figures.influence_figure(
      folder / "influence.png", found, **drawn
    )
    gradient_anatomy_figures.direction_figure(
      folder / "directions.png", directions, **drawn
    )
    gradient_anatomy_figures.edge_figure(
      folder / "edges.png", found, unit=study.unit, **drawn
    )
    seeds = {each.variant: each.seeds for each in subjects}
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        claims=anatomy.claims(
          found,
          first.variant,
          trained_models.UNTRAINED,
          directions,
          early,
          study.unit,
        ),
        tables=anatomy.tables(found, directions, study.unit),
        figures={
          "shares.png": "Share of the squared gradient norms by distance, all"
          " heads; mean and 95% t band over seeds.",
          "influence.png": "How much the loss at i depends on position j, mean"
          " over seeds.",
          "directions.png": "The myopic, future and mixed gradients along"
          f" training under {first.variant}; mean and 95% t band.",
          "edges.png": "The rise of the loss when edges are cut, by distance,"
          " and by whom a key serves; mean and 95% t band.",
        },
        cells=results_writer.seed_cells(
          {
            variant: anatomy.metrics(one, seeds[variant])
            for variant, one in found.items()
          },
          trained_models.diverged_seeds(subjects),
        ),
        measurements=anatomy.measurements(found, seeds),
        arrays=anatomy.arrays(found, directions),
        notes=(
          "Shares are of the sum over distances of the squared norms; signed"
          " shares are the parts along the whole gradient. Both sum to one.",
          "Future is vanilla minus myopic, as published. Myopic and future_only"
          " gradients both hold what passes no key or value, so the whole"
          " minus both (W13b) counts it twice; mixed paths are what is missing"
          " when it is counted once.",
          "Below the last layer the rise at a position also holds what other"
          " positions lost by their edges of the same distance.",
          *(
            f"{variant} is left out, for its forward pass is another."
            for variant in left_out
          ),
        ),
      ),
    )


if __name__ == "__main__":
  app.run(main)
