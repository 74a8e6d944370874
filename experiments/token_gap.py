"""Where in text does the myopia gap lie?

    python -m experiments.token_gap [--model=RUN] [--corpus=PATH [--valid=PATH]]
        [--tokenizer=bpe:N] [--preset=smoke|cpu|paper] [--out=DIR]

Arms: myopic/residual and myopic/kv, each against ordinary training of the same
seed. Takes the losses of single held-out tokens: by position in the window; by
how often the token was seen in training; by whether it begins or continues a
word, stands after a line break, or was seen in the window, and how far back.

Writes shares of tokens and of the gap with intervals over seeds, verdicts on
the published curve by position, and the most costly tokens with the text around
them. Trains its own models (three arms of `experiments.language`, which take
most of the time), or takes the arms of a run on text.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np

from experiments.common import (
  app,
  results_writer,
  shared_flags,
  study_setup,
  text_corpus,
)
from experiments.common.trained_models import Subject
from experiments.reports import token_gap as report
from experiments.reports.token_gap_claims import VariantLosses
from experiments.setups import token_gap_setup
from jaxlook.lookahead import token_gap
from jaxlook.lookahead.token_classes import token_kinds
from jaxlook.tasks.text import Text
from jaxlook.text import ngram

shared_flags.adopt(__name__, *shared_flags.STUDY_TEXT)


def compare(
  windows: np.ndarray, causal: Subject, others: Sequence[Subject]
) -> list[VariantLosses]:
  """Losses of single tokens of each variant, beside causal's.

  Args:
    windows: held-out windows in batches, integer [..., T + 1].
    causal: the models that the gap is measured from.
    others: those of each variant.

  Returns:
    Losses of the seeds that are finite in both, for each variant.

  Raises:
    UsageError: a variant shares fewer than two seeds with causal.
  """
  plain = token_gap.token_losses(causal.decoder, causal.params, windows)
  found = []
  for each in others:
    seeds = tuple(seed for seed in causal.seeds if seed in each.seeds)
    if len(seeds) < 2:
      raise app.UsageError(
        "seeds", f"{each.variant} shares {len(seeds)} with causal, not 2"
      )
    losses = token_gap.token_losses(each.decoder, each.params, windows)
    found.append(
      VariantLosses(
        variant=each.variant,
        seeds=seeds,
        plain=plain[[causal.seeds.index(seed) for seed in seeds]],
        loss=losses[[each.seeds.index(seed) for seed in seeds]],
      )
    )
  return found


def main() -> None:
  """Checks the flags, then trains, measures and reports."""
  study = token_gap_setup.build_study()
  text = cast(Text, study.problem.task)
  batches = np.asarray(study.problem.held_out)
  windows = batches.reshape(-1, batches.shape[-1])
  show = text_corpus.tokenizer_of(study.problem.about).show
  with study.open_run() as store:
    subjects = study.subjects(store)
    losses = compare(batches, subjects[0], subjects[1:])
    counts = ngram.token_counts(text.train_tokens(), text.vocab_size)
    kinds = token_kinds(windows, counts, show(range(text.vocab_size)))
    results_writer.write(
      store,
      report.results(study, subjects, losses, kinds, windows, show),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(precache=None, attention=token_gap_setup.ARMS),
    says=study_setup.TOKENS_SAYS
    | {
      "model": "Run on text to study, with causal and another arm. [trains its"
      " own]"
    },
  )
