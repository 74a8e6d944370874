"""Where in text does the myopia gap lie?

    python -m experiments.token_gap [--model=RUN] [--corpus=PATH [--valid=PATH]]
        [--tokenizer=bpe:N] [--preset=smoke|cpu|paper] [--out=DIR]

Losses of single held-out tokens under myopic/residual and myopic/kv, minus
those of ordinary training of the same seed: by position in the window, by how
often the token was seen in training, by whether it begins or continues a word,
stands after a line break, or was seen in the window, and how far back. Shares
of tokens and of the gap with intervals over seeds, verdicts on the published
curve by position, and the most costly tokens with the text around them. Trains
its own models (three arms of `experiments.language`, which take most of the
time), or takes the arms of a run on text.
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
  trained_models,
  training_flags,
)
from experiments.common.study import Study
from experiments.reports import token_gap as reports
from experiments.reports import token_gap_claims
from jaxlook.lookahead import token_gap
from jaxlook.lookahead.token_classes import token_kinds
from jaxlook.stats import myopia_gap
from jaxlook.tasks.text import Text
from jaxlook.text import ngram

flags.adopt_module_key_flags(study_setup)

_COSTLY = 20
_FIGURE = "gap.png"


def compare(study, found) -> list[token_gap_claims.VariantLosses]:
  """The losses of each variant, beside causal's of the same seeds."""
  windows = np.asarray(study.problem.held_out)
  losses = {
    each.variant: token_gap.token_losses(each.decoder, each.params, windows)
    for each in found
  }
  plain, *others = found
  gaps = []
  for each in others:
    seeds = tuple(seed for seed in plain.seeds if seed in each.seeds)
    if len(seeds) < 2:
      raise app.UsageError(
        "seeds", f"{each.variant} shares {len(seeds)} with causal, not 2"
      )
    ours, theirs = (
      losses[subject.variant][[subject.seeds.index(seed) for seed in seeds]]
      for subject in (each, plain)
    )
    gaps.append(
      token_gap_claims.VariantLosses(each.variant, seeds, theirs, ours)
    )
  return gaps


def build() -> Study:
  """Checks the flags; causal comes first and has something beside it."""
  study = study_setup.build(
    "token_gap",
    "Where in text the myopia gap lies",
    (myopia_gap.CAUSAL, myopia_gap.RESIDUAL, myopia_gap.KV),
    precache=None,
  )
  if study.pretrained is not None:
    raise app.UsageError("model", "is one model; a gap is between two arms")
  if trained_models.STEP.value == 0:
    raise app.UsageError("step", "must be above 0: untrained arms are one")
  names = [each.name for each in study.variants]
  if myopia_gap.CAUSAL not in names or len(names) < 2:
    flag = "attention" if training_flags.ATTENTION.value else "model"
    raise app.UsageError(
      flag, f"gives {', '.join(names)}; causal and another are needed"
    )

  def later(name: str) -> bool:
    return name != myopia_gap.CAUSAL

  return dataclasses.replace(
    study,
    variants=tuple(sorted(study.variants, key=lambda v: later(v.name))),
    saved=tuple(sorted(study.saved, key=lambda arm: later(arm.variant))),
  )


def main() -> None:
  """Checks the flags, then trains, measures and reports."""
  study = build()
  show = text_corpus.tokenizer_of(study.problem.about).show
  text = cast(Text, study.problem.task)
  windows = np.asarray(study.problem.held_out)
  windows = windows.reshape(-1, windows.shape[-1])
  with study.open_run() as store:
    found = study.subjects(store)
    gaps = compare(study, found)
    counts = ngram.token_counts(text.train_tokens(), text.vocab_size)
    of = token_kinds(windows, counts, show(range(text.vocab_size)))
    reports.figure(
      store.figures / _FIGURE,
      gaps,
      of,
      title=study.title,
      setup=f"{study.setup}; {len(found[0].seeds)} seeds, {windows[:, 1:].size}"
      " held-out tokens; mean and 95% t band",
    )
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        claims=token_gap_claims.claims(gaps, of),
        tables=reports.tables(gaps, of, windows, show, _COSTLY),
        figures={_FIGURE: "The gap of held-out tokens by their kind."},
        cells=results_writer.seed_cells(
          {each.variant: reports.metrics(each, of) for each in gaps},
          trained_models.diverged_seeds(found),
        ),
        measurements=reports.measurements(gaps, of),
        notes=reports.NOTES,
      ),
    )


if __name__ == "__main__":
  app.run(main)
