"""Which skip-trigrams do heads learn, are they true, and who asks for them?

    python -m experiments.skip_trigrams --corpus=TEXT --tokenizer=bpe:1024
        [--preset=smoke|cpu|paper] [--attention=...] [--model=RUN] [--out=DIR]

Trains one-layer attention-only models on text: causal, myopic/residual and
myopic/kv. Of every head it reads the table `source ... destination -> output`
off the weights, as a QK part (attention) times an OV part (logits), counts in
the training text how often each entry is true, lists the false entries that two
true ones force upon a head, and gives the heads' copying scores; all beside
untrained models. With bytes for tokens it works, but with words it can be read.
After Elhage et al. (2021), "A Mathematical Framework for Transformer Circuits".
"""

import dataclasses
from typing import cast

import numpy as np
from absl import flags

from experiments.common import (
  app,
  results_writer,
  study_setup,
  text_corpus,
  text_setup,
  trained_models,
  training_flags,
)
from experiments.common.study import Study
from experiments.reports import (
  skip_trigrams,
  skip_trigrams_tables,
)
from jaxlook.circuits import trigram_check
from jaxlook.circuits.trigram_check import TrigramScale
from jaxlook.reporting import figures
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL
from jaxlook.tasks.text import Text
from jaxlook.training import held_out_batch

flags.adopt_module_key_flags(study_setup)

TITLE = "Skip-trigrams of one-layer attention-only models"
SCALES = {
  "smoke": TrigramScale(4096, 8, 1e-3, sources=4, entries=3, drawn=64),
  "cpu": TrigramScale(32_768, 128, 1e-3, sources=16, entries=8, drawn=8192),
  "paper": TrigramScale(
    131_072, 128, 2e-4, sources=64, entries=8, drawn=32_768
  ),
}


def _presets() -> dict[str, text_setup.TextConfig]:
  cpu = study_setup.TEXT["cpu"]
  shapes = {
    "smoke": {},
    "cpu": {"heads": 8, "train": dataclasses.replace(cpu.train, steps=800)},
    "paper": {},
  }
  return {
    # Embeddings are not shared, as in the paper: a direct path through shared
    # ones can only be symmetric, which bigrams are not.
    preset: dataclasses.replace(
      config, layers=1, mlp_width=0, tied_head=False, **shapes[preset]
    )
    for preset, config in study_setup.TEXT.items()
  }


TEXT = _presets()


def plan(
  text: Text, study: Study, scale: TrigramScale
) -> trigram_check.TrigramPlan:
  """Counts the text that the models are held against."""
  batch = study.problem.train.batch_size
  # No window twice.
  count = min(scale.windows, len(text.train_tokens()) // (text.length + 1))
  windows = text.windows(0, range(count // batch), batch)
  held_out = held_out_batch(study.problem, scale.sequences)
  with app.blaming("corpus"):
    return trigram_check.make_plan(
      np.concatenate([held_out.inputs, held_out.targets[:, -1:]], axis=1),
      windows.reshape(-1, windows.shape[-1]),
      text.vocab_size,
      scale,
    )


def main() -> None:
  """Checks the flags, then trains, reads the tables and reports."""
  study = study_setup.build(
    "skip_trigrams", TITLE, (CAUSAL, RESIDUAL, KV), precache=None, text=TEXT
  )
  shape = study.problem.model
  flag = "model" if trained_models.MODEL.value else "layers"
  if shape.layers != 1 or shape.hidden_width:
    raise app.UsageError(flag, "must be one attention-only layer")
  scale = SCALES[training_flags.PRESET.value]
  study = dataclasses.replace(
    study, config={**study.config, "trigrams": dataclasses.asdict(scale)}
  )
  asked = plan(cast(Text, study.problem.task), study, scale)
  show = text_corpus.tokenizer_of(study.problem.about).show
  with study.open_run() as store:
    subjects = study.subjects(store)
    lost = trained_models.diverged_seeds(subjects)
    subjects.append(subjects[0].untrained())
    found = [
      trigram_check.measure_trigrams(
        asked, each.variant, each.decoder, each.seeds, each.params
      )
      for each in subjects
    ]
    figures.panels_figure(
      store.figures / "skip_trigrams.png",
      skip_trigrams.panels(asked, found),
      title=study.title,
      setup=f"{study.setup}; {len(found[0].seeds)} seeds",
    )
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        claims=skip_trigrams.claims(asked, found, trained_models.UNTRAINED),
        tables=skip_trigrams_tables.tables(
          asked, found, trained_models.UNTRAINED, show
        ),
        figures={
          "skip_trigrams.png": "Above: the entries of one model's heads, and"
          " how many entries hold in the text. Below: whether what the models"
          " expect is what the text has, and copying scores. Means over seeds"
          " with 95% t intervals."
        },
        cells=results_writer.seed_cells(
          {each.variant: skip_trigrams.metrics(asked, each) for each in found},
          lost,
        ),
        notes=skip_trigrams.NOTES,
      ),
    )


if __name__ == "__main__":
  app.run(main)
