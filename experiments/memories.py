"""Feed-forward layers as key-value memories: what they hold, layer by layer.

    python -m experiments.memories [--model=RUN|DIR] [--corpus=PATH]
        [--preset=smoke|cpu|paper] [--out=DIR]

For every neuron the held-out prefixes that trigger it most, and its value as a
distribution over the vocabulary: do values say what follows their triggers, do
triggers end alike, how many memories are active, and how does the output token
come about (Geva et al. 2021)? By layer, for causal, myopic/residual and
myopic/kv models and untrained ones, beside other neurons' triggers, the text's
commonest token and random prefixes. Text only: the pre-caching task has no
tokens.
"""

import dataclasses

from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  study_setup,
  text_corpus,
  trained_models,
)
from experiments.reports import memories as reports
from experiments.reports import memories_tables
from jaxlook import reporting
from jaxlook.circuits import memory_study
from jaxlook.interventions.forward import forward_only
from jaxlook.reporting import figures
from jaxlook.stats import myopia_gap
from jaxlook.training import held_out_batch

shared_flags.adopt(__name__, *shared_flags.STUDY_TEXT)

ARMS = (myopia_gap.CAUSAL, myopia_gap.RESIDUAL, myopia_gap.KV)

SETUPS = {
  "smoke": memory_study.MemorySetup(windows=32, batch=8, top=5),
  "cpu": memory_study.MemorySetup(),
  "paper": memory_study.MemorySetup(windows=16384, top=50),
}
# The claims are about depth: twice the layers of the other studies.
TEXT = study_setup.TEXT | {
  "smoke": dataclasses.replace(study_setup.TEXT["smoke"], layers=2),
  "cpu": dataclasses.replace(
    study_setup.TEXT["cpu"],
    layers=4,
    train=dataclasses.replace(study_setup.TEXT["cpu"].train, steps=500),
  ),
}
_ROWS, _TRIGGERS = 8, 3


def examine(study, setup, text, found) -> list[reports.Examined]:
  """Every variant's memories, and those of untrained models."""
  every = [*found, found[0].untrained()]
  # After no steps all variants are one.
  every = {each.variant: each for each in every}.values()
  return [
    reports.Examined(
      each.variant,
      each.seeds,
      # Cut gradients leave the forward pass alone: one program for all.
      memory_study.measure_memories(
        forward_only(each.decoder), each.params, text, setup
      ),
    )
    for each in every
  ]


def tables(examined, text, chance, show) -> dict[str, reporting.Rows]:
  """All tables by title."""
  found = {
    "Agreement of values with the tokens that follow their triggers": (
      reports.layer_table(examined, reports.AGREEMENT_COLUMNS)
    ),
    "Endings that triggers share": reports.layer_table(
      examined, reports.PATTERN_COLUMNS, chance
    ),
    "Activity": reports.layer_table(examined, reports.ACTIVITY_COLUMNS),
    "How the output token comes about": reports.layer_table(
      examined, reports.REFINEMENT_COLUMNS
    ),
  }
  paired = reports.differences(examined)
  if paired:
    title = "Paired differences, means over layers where none is named"
    found[title] = reporting.comparison_table(paired)
  for each in examined:
    if each.variant == trained_models.UNTRAINED:
      continue
    found[f"Most confident values, {each.variant}, seed {each.seeds[0]}"] = (
      memories_tables.value_table(
        each.found, text, show, seed=0, rows=_ROWS, shown=_TRIGGERS
      )
    )
  return found


def main() -> None:
  """Checks the flags, then trains, measures and reports."""
  study = study_setup.build(
    "memories",
    "Feed-forward layers as key-value memories",
    ARMS,
    precache=None,
    text=TEXT,
  )
  if not study.problem.model.hidden_width:
    raise app.UsageError("model", "has no feed-forward layers")
  setup = presets.chosen(SETUPS)
  with app.blaming("corpus"):
    batch = held_out_batch(study.problem, setup.windows)
    text = memory_study.streamed_text(batch.inputs, batch.targets, setup)
  show = text_corpus.tokenizer_of(study.problem.about).show
  study = dataclasses.replace(
    study, config={**study.config, "memories": dataclasses.asdict(setup)}
  )
  with study.open_run() as store:
    found = study.subjects(store)
    examined = examine(study, setup, text, found)
    chance = memory_study.random_patterns(text, setup.top)
    for name, rows in memories_tables.panels(examined, chance).items():
      figures.panels_figure(
        store.figures / name,
        rows,
        title=study.title,
        setup=f"{study.setup}; {len(found[0].seeds)} seeds, mean and 95% t"
        " band",
      )
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        claims=reports.claims(examined, chance),
        tables=tables(examined, text, chance, show),
        figures=memories_tables.CAPTIONS,
        cells=results_writer.seed_cells(
          {each.variant: reports.metrics(each) for each in examined},
          trained_models.diverged_seeds(found),
        ),
        measurements=reports.measurements(examined, chance),
        arrays=reports.arrays(examined, _TRIGGERS),
        notes=memories_tables.notes(text, setup, study.problem.model),
      ),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(precache=None, text=TEXT, attention=ARMS),
    says=study_setup.SAYS,
  )
