"""Which skip-trigrams do heads learn, are they true, and who asks for them?

    python -m experiments.skip_trigrams --corpus=TEXT --tokenizer=bpe:1024
        [--preset=smoke|cpu|paper] [--attention=...] [--model=RUN] [--out=DIR]

Arms: causal, myopic/residual and myopic/kv, one-layer attention-only models of
text, beside untrained ones. Reads the table `source ... destination -> output`
of every head off its weights, as a QK part (attention) times an OV part
(logits). Counts in the training text how often each entry is true, lists the
false entries that two true ones force upon a head, and gives the copying scores
of the heads.

The tokens may be bytes, but the tables can only be read with longer tokens.
After Elhage et al. (2021), "A Mathematical Framework for Transformer Circuits".
"""

import dataclasses
from typing import cast

import numpy as np

from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  study_setup,
  text_corpus,
  text_setup,
)
from experiments.common.study import Study
from experiments.reports import skip_trigrams as report
from jaxlook.circuits import trigram_check
from jaxlook.circuits.trigram_check import TrigramPlan, TrigramScale
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL
from jaxlook.tasks.text import Text
from jaxlook.training import held_out_batch

shared_flags.adopt(__name__, *shared_flags.STUDY_TEXT)

ARMS = (CAUSAL, RESIDUAL, KV)


SCALES = {
  "smoke": TrigramScale(
    windows=4096, sequences=8, floor=1e-3, sources=4, entries=3, drawn=64
  ),
  "cpu": TrigramScale(
    windows=32_768, sequences=128, floor=1e-3, sources=16, entries=8, drawn=8192
  ),
  "paper": TrigramScale(
    windows=131_072,
    sequences=128,
    floor=2e-4,
    sources=64,
    entries=8,
    drawn=32_768,
  ),
}
TEXT = {
  preset: text_setup.attention_only(config, layers=1)
  for preset, config in study_setup.TEXT.items()
}
# A claim is about the majority of heads: more heads, and more steps.
TEXT["cpu"] = dataclasses.replace(
  TEXT["cpu"],
  heads=8,
  train=dataclasses.replace(TEXT["cpu"].train, steps=800),
)


def count_text(study: Study, scale: TrigramScale) -> TrigramPlan:
  """Counts the text that the tables are compared with."""
  text, batch = cast(Text, study.problem.task), study.problem.train.batch_size
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
    "skip_trigrams",
    "Skip-trigrams of one-layer attention-only models",
    ARMS,
    precache=None,
    text=TEXT,
  )
  shape = study.problem.model
  if shape.layers != 1 or shape.hidden_width:
    flag = "model" if shared_flags.MODEL.value else "layers"
    raise app.UsageError(flag, "must be one attention-only layer")
  scale = presets.chosen(SCALES)
  study = study.with_config(trigrams=dataclasses.asdict(scale))
  plan = count_text(study, scale)
  show = text_corpus.tokenizer_of(study.problem.about).show
  with study.open_run() as store:
    subjects = study.subjects_and_untrained(store)
    found = [
      trigram_check.measure_trigrams(
        plan, each.variant, each.decoder, each.seeds, each.params
      )
      for each in subjects
    ]
    results_writer.write(
      store,
      report.results(store.figures, study, subjects, plan, found, show),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(precache=None, text=TEXT, attention=ARMS),
    says=study_setup.SAYS,
  )
