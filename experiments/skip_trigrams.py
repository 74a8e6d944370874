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

from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  study_setup,
  text_corpus,
)
from experiments.reports import skip_trigrams as report
from experiments.setups import skip_trigrams_setup
from jaxlook.circuits import trigram_check
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL

shared_flags.adopt(__name__, *shared_flags.STUDY_TEXT)

ARMS = (CAUSAL, RESIDUAL, KV)


def main() -> None:
  """Checks the flags, then trains, reads the tables and reports."""
  study = study_setup.build(
    "skip_trigrams",
    "Skip-trigrams of one-layer attention-only models",
    ARMS,
    precache=None,
    text=skip_trigrams_setup.TEXT,
  )
  shape = study.problem.model
  if shape.layers != 1 or shape.hidden_width:
    flag = "model" if shared_flags.MODEL.value else "layers"
    raise app.UsageError(flag, "must be one attention-only layer")
  scale = presets.chosen(skip_trigrams_setup.SCALES)
  study = study.with_config(trigrams=dataclasses.asdict(scale))
  plan = skip_trigrams_setup.count_text(study, scale)
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
      report.results(study, subjects, plan, found, show),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(
      precache=None, text=skip_trigrams_setup.TEXT, attention=ARMS
    ),
    says=study_setup.TOKENS_SAYS
    | {"model": "Run of attention-only models to study. [trains its own]"},
  )
