"""What are single heads worth, and what virtual heads, and who asks for them?

    python -m experiments.path_terms --corpus=TEXT [--tokenizer=bpe:1024]
        [--preset=smoke|cpu|paper] [--layers=2] [--attention=...]
        [--model=RUN] [--out=DIR]

Trains two-layer attention-only models on text: causal, myopic/residual and
myopic/kv. With frozen attention patterns and LayerNorm divisions it takes the
logits apart into the direct path, single heads and virtual heads, and measures
how far each order lowers the held-out loss, and each layer's single heads, by
the ablation of Elhage et al. (2021), "A Mathematical Framework for Transformer
Circuits"; and how much of it paths bring from earlier positions, which is all
that those can be asked for. Beside it stand untrained models.
"""

import dataclasses

import jax
from absl import flags

from experiments.common import (
  app,
  results_writer,
  study_setup,
  trained_models,
  training_flags,
)
from experiments.reports import path_terms
from jaxlook.circuits import composition, term_losses
from jaxlook.reporting import figures
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL
from jaxlook.training import held_out_batch

flags.adopt_module_key_flags(study_setup)

# Held-out windows to measure on.
SEQUENCES = {"smoke": 16, "cpu": 512, "paper": 2048}


TEXT = {
  # Embeddings are not shared, as in the paper: a direct path through shared
  # ones can only be symmetric, which bigrams are not.
  preset: dataclasses.replace(config, layers=2, mlp_width=0, tied_head=False)
  for preset, config in study_setup.TEXT.items()
}


def main() -> None:
  """Checks the flags, then trains, takes the logits apart and reports."""
  study = study_setup.build(
    "path_terms",
    "Path terms of attention-only models",
    (CAUSAL, RESIDUAL, KV),
    precache=None,
    text=TEXT,
  )
  if study.problem.model.hidden_width:
    raise app.UsageError("model", "has feed-forward layers: no sum over paths")
  sequences = SEQUENCES[training_flags.PRESET.value]
  study = dataclasses.replace(
    study, config={**study.config, "sequences": sequences}
  )
  batch = held_out_batch(study.problem, sequences)
  with study.open_run() as store:
    subjects = study.subjects(store)
    lost = trained_models.diverged_seeds(subjects)
    subjects.append(subjects[0].untrained())
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
    shape = study.problem.model
    vocab_size = shape.vocab_size or 0
    random = composition.random_baseline(
      jax.random.key(0), shape.width, shape.head_width
    )
    figures.panels_figure(
      store.figures / "path_terms.png",
      path_terms.panels(found, vocab_size),
      title=study.title,
      setup=f"{study.setup}; {len(batch.inputs)} held-out windows,"
      f" {len(found[0].seeds)} seeds",
    )
    values = term_losses.named_values(found, vocab_size)
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        claims=path_terms.claims(found, vocab_size),
        tables=path_terms.tables(found, vocab_size),
        figures={
          "path_terms.png": "Held-out loss as longer paths are added, and how"
          " far each order and each layer's single heads lower it; means and"
          " 95% t intervals over seeds."
        },
        cells=results_writer.seed_cells(
          {
            each.variant: {
              seed: {
                name: by_variant[each.variant][seed]
                for name, by_variant in values.items()
              }
              for seed in each.seeds
            }
            for each in found
          },
          lost,
        ),
        notes=(
          *path_terms.NOTES,
          "Composition scores of independent Gaussian weights of these shapes:"
          f" {float(random.mean):.4f}, standard deviation over pairs of heads"
          f" {float(random.deviation):.4f}.",
        ),
      ),
    )


if __name__ == "__main__":
  app.run(main)
