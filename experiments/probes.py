"""What do hidden states hold that only later positions need?

    python -m experiments.probes [--task=precache|text] [--preset=smoke|cpu]
        [--model=RUN [--step=N] | --model=DIR] [--out=DIR]

Arms: causal, myopic/residual and myopic/kv. Probes the residual stream, keys,
values and MLP neurons, fitted on half of the held-out sequences and scored on
the other half, beside untrained models, shuffled targets, and what the inputs
alone say.

On the pre-caching task ridge probes look for the input, its sine, those of
earlier inputs, and sums, as in Wu, Morris and Levine (2024), section 4. On text
logistic probes look for the tokens n .. n + 5, and, if tokens are bytes, for
the ends of words.
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
from experiments.reports import probes as report
from experiments.setups import probes_setup
from jaxlook.keys import make_key
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.probing.probe_models import ProbePlan, ProbeResults, probe_models
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL

shared_flags.adopt(__name__, *shared_flags.STUDY)

ARMS = (CAUSAL, RESIDUAL, KV)


def probe_all(
  plan: ProbePlan, model: DecoderConfig, subjects: Sequence[Subject]
) -> tuple[list[ProbeResults], list[ProbeResults]]:
  """Probes every variant, and the untrained models once for each forward.

  Args:
    plan: what to probe for.
    model: the shape of all models.
    subjects: the models of every variant.

  Returns:
    Results of the variants, in order, and of the untrained models.
  """
  key = make_key(0)
  found, controls = {}, {}
  # Fullest first, so that a diverged seed takes no control from the others.
  fullest_first = sorted(
    enumerate(subjects), key=lambda placed: -len(placed[1].seeds)
  )
  for place, each in fullest_first:
    plain = each.decoder.variant.keeps_forward
    # Variants with one forward pass share its compiled program and its control.
    decoder = Decoder(model) if plain else each.decoder
    if decoder not in controls:
      fresh = each.untrained()
      controls[decoder] = ProbeResults(
        fresh.variant if plain else f"{fresh.variant} {each.variant}",
        fresh.seeds,
        probe_models(plan, decoder, fresh.params, key),
      )
    found[place] = ProbeResults(
      each.variant,
      each.seeds,
      probe_models(plan, decoder, each.params, key),
      controls[decoder],
    )
  return [found[place] for place in sorted(found)], list(controls.values())


def main() -> None:
  """Checks the flags, then trains, probes and reports."""
  study = study_setup.build(
    "probes", "What hidden states hold", ARMS, precache=probes_setup.PRECACHE
  )
  scale = presets.chosen(probes_setup.SCALES)
  plan = probes_setup.plan(study, scale)
  study = study.with_config(probes=dataclasses.asdict(scale))
  with study.open_run() as store:
    subjects = study.subjects(store)
    found, controls = probe_all(plan, study.problem.model, subjects)
    results_writer.write(
      store,
      report.results(study, subjects, plan, found, controls),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(precache=probes_setup.PRECACHE, attention=ARMS),
    says=study_setup.SAYS,
  )
