"""What are single heads worth, and what virtual heads, and who asks for them?

    python -m experiments.path_terms --corpus=TEXT [--tokenizer=bpe:1024]
        [--preset=smoke|cpu|paper] [--layers=2] [--attention=...]
        [--model=RUN] [--out=DIR]

Arms: causal, myopic/residual and myopic/kv, two-layer attention-only models of
text, beside untrained ones. Freezes attention patterns and LayerNorm divisions
and splits the logits into the direct path, single heads and virtual heads.

Measures how far each order, and each layer's single heads, lower the held-out
loss, by the ablation of Elhage et al. (2021), "A Mathematical Framework for
Transformer Circuits". Tells apart what paths bring from earlier positions: that
is all that later positions can ask for.
"""

from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  study_setup,
  text_setup,
)
from experiments.reports import path_terms as report
from jaxlook.circuits import composition, term_losses
from jaxlook.keys import make_key
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL
from jaxlook.training import held_out_batch

shared_flags.adopt(__name__, *shared_flags.STUDY_TEXT)

ARMS = (CAUSAL, RESIDUAL, KV)


# Held-out windows to measure on.
SEQUENCES = {"smoke": 16, "cpu": 512, "paper": 2048}
TEXT = {
  preset: text_setup.attention_only(config, layers=2)
  for preset, config in study_setup.TEXT.items()
}


def main() -> None:
  """Checks the flags, then trains, splits the logits and reports."""
  study = study_setup.build(
    "path_terms",
    "Path terms of attention-only models",
    ARMS,
    precache=None,
    text=TEXT,
  )
  shape = study.problem.model
  if shape.hidden_width:
    raise app.UsageError("model", "must be attention-only, without MLPs")
  sequences = presets.chosen(SEQUENCES)
  study = study.with_config(sequences=sequences)
  batch = held_out_batch(study.problem, sequences)
  random = composition.random_baseline(
    make_key(0), shape.width, shape.head_width
  )
  with study.open_run() as store:
    subjects = study.subjects_and_untrained(store)
    found = [
      term_losses.measure_path_terms(
        study.problem.task,
        batch,
        each.variant,
        each.decoder,
        each.seeds,
        each.params,
      )
      for each in subjects
    ]
    results_writer.write(
      store,
      report.results(
        study,
        subjects,
        found,
        random,
        windows=len(batch.inputs),
      ),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(precache=None, text=TEXT, attention=ARMS),
    says=study_setup.TOKENS_SAYS
    | {"model": "Run of attention-only models to study. [trains its own]"},
  )
