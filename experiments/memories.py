"""Feed-forward layers as key-value memories: what they hold, layer by layer.

    python -m experiments.memories [--model=RUN|DIR] [--corpus=PATH]
        [--preset=smoke|cpu|paper] [--out=DIR]

Arms: causal, myopic/residual and myopic/kv models, and untrained ones. Finds
for every neuron the held-out prefixes that trigger it most, and reads its value
as a distribution over the vocabulary. Do values say what follows their
triggers? Do triggers end alike? How many memories are active? How does the
output token come about (Geva et al. 2021)?

Writes all of it by layer, beside other neurons' triggers, the text's commonest
token and random prefixes. It needs text: the pre-caching task has no tokens.
"""

import dataclasses
from collections.abc import Sequence

from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  study_setup,
  text_corpus,
)
from experiments.common.trained_models import Subject
from experiments.reports import memories as report
from experiments.reports.memories_claims import VariantMemories
from jaxlook.circuits import memory_study
from jaxlook.circuits.memory_study import MemorySetup, StreamedText
from jaxlook.interventions.forward import forward_only
from jaxlook.stats import myopia_gap
from jaxlook.training import held_out_batch

shared_flags.adopt(__name__, *shared_flags.STUDY_TEXT)

ARMS = (myopia_gap.CAUSAL, myopia_gap.RESIDUAL, myopia_gap.KV)
SETUPS = {
  "smoke": MemorySetup(windows=32, batch=8, top=5),
  "cpu": MemorySetup(),
  "paper": MemorySetup(windows=16384, top=50),
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


def measure(
  subjects: Sequence[Subject], text: StreamedText, setup: MemorySetup
) -> list[VariantMemories]:
  """The memories of every variant, and those of untrained models."""
  every = [*subjects, subjects[0].untrained()]
  return [
    VariantMemories(
      each.variant,
      each.seeds,
      # Cut gradients leave the forward pass alone: one program for all.
      memory_study.measure_memories(
        forward_only(each.decoder), each.params, text, setup
      ),
    )
    # With --step=0 all variants are untrained models, and are measured once.
    for each in {each.variant: each for each in every}.values()
  ]


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
  study = study.with_config(memories=dataclasses.asdict(setup))
  with study.open_run() as store:
    subjects = study.subjects(store)
    found = measure(subjects, text, setup)
    results_writer.write(
      store,
      report.results(study, subjects, found, text, setup, show),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(precache=None, text=TEXT, attention=ARMS),
    says=study_setup.TOKENS_SAYS,
  )
