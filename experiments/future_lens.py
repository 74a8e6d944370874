"""Which later tokens can be decoded from one hidden state?

    python -m experiments.future_lens [--model=RUN|DIR] [--corpus=PATH]
        [--preset=smoke|cpu|paper] [--out=DIR]

Arms: causal, myopic/residual and myopic/kv models. Decodes the token tau = 1,
2, 3 positions on from the residual stream at one position and layer, by two
linear maps and by a learned soft prompt, beside controls that Pal et al. (2023)
lack, untrained models among them.

Writes, by layer, the accuracy against the text's token and the agreement with
the model's own prediction there, and verdicts on the published order. It needs
text: the pre-caching task has no tokens.
"""

import dataclasses
from collections.abc import Sequence

from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  study_setup,
)
from experiments.common.trained_models import Subject
from experiments.reports import future_lens as report
from experiments.setups import future_lens_setup
from jaxlook.lookahead import future_lens, lens_measures
from jaxlook.lookahead.future_lens import LensResults
from jaxlook.lookahead.future_pairs import LensSetup
from jaxlook.lookahead.lens_measures import LensText
from jaxlook.stats import myopia_gap

shared_flags.adopt(__name__, *shared_flags.STUDY_TEXT)

ARMS = (myopia_gap.CAUSAL, myopia_gap.RESIDUAL, myopia_gap.KV)


def measure(
  subjects: Sequence[Subject], text: LensText, setup: LensSetup
) -> dict[str, LensResults]:
  """Scores by variant; the first one's with those of untrained models."""
  scores = {
    each.variant: lens_measures.measure_lens(
      each.decoder, each.params, text, setup
    )
    for each in subjects
  }
  first = subjects[0]
  fresh = lens_measures.measure_lens(
    first.decoder, first.untrained().params, text, setup, prompts=False
  )
  linear = (future_lens.HIDDEN, future_lens.LOGITS)
  control = lens_measures.rename_methods(fresh, linear, report.UNTRAINED)
  scores[first.variant] = lens_measures.join_methods(
    [scores[first.variant], control]
  )
  return scores


def main() -> None:
  """Checks the flags, then trains, measures and reports."""
  study = study_setup.build(
    "future_lens",
    "The future lens: later tokens from one hidden state",
    ARMS,
    precache=None,
  )
  setup = presets.chosen(future_lens_setup.SETUPS)
  text = future_lens_setup.read_text(study, setup)
  study = study.with_config(lens=dataclasses.asdict(setup))
  with study.open_run() as store:
    subjects = study.subjects(store)
    measured = measure(subjects, text, setup)
    results_writer.write(
      store,
      report.results(study, subjects, measured, setup.horizon),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(precache=None, attention=ARMS),
    says=study_setup.TOKENS_SAYS,
  )
