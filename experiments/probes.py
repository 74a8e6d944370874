"""What do hidden states hold that only later positions need?

    python -m experiments.probes [--task=precache|text] [--preset=smoke|cpu]
        [--model=RUN [--step=N] | --model=DIR] [--out=DIR]

Arms: causal, myopic/residual, myopic/kv. Probes of the residual stream, keys,
values and MLP neurons, fitted on half of the held-out sequences and scored on
the other half, beside untrained models, shuffled targets, and what the inputs
alone say. On the pre-caching task ridge probes for the input, its sine, those
of earlier inputs, and sums, as Wu, Morris and Levine (2024), section 4; on text
logistic probes for the tokens n .. n + 5, and, for bytes, where words end.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import jax
import numpy as np

from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  study_setup,
  trained_models,
)
from experiments.common.study import Study
from experiments.reports import probes
from jaxlook import reporting
from jaxlook.models import Decoder
from jaxlook.models.sites import residual_sites
from jaxlook.probing import probe_models, targets
from jaxlook.probing.probe_models import (
  ACCURACY,
  LEAST_SQUARES,
  NATS,
  R2,
  ProbeResults,
)
from jaxlook.reporting import figures
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL
from jaxlook.tasks.precache import Precache
from jaxlook.tasks.text import Text
from jaxlook.training import held_out_batch

shared_flags.adopt(__name__, *shared_flags.STUDY)

ARMS = (CAUSAL, RESIDUAL, KV)

_PANELS = 4


@dataclasses.dataclass(frozen=True)
class ProbeScale:
  """How many held-out sequences are probed, and how on text.

  Attributes:
    precache: sequences of the pre-caching task.
    text: windows of text.
    stride: between positions of text.
    top: tokens that are told apart.
    steps: of the logistic probes.
  """

  precache: int
  text: int
  stride: int
  top: int
  steps: int


SCALES = {
  "smoke": ProbeScale(precache=32, text=32, stride=1, top=8, steps=10),
  "cpu": ProbeScale(precache=1024, text=1024, stride=4, top=32, steps=50),
  "paper": ProbeScale(precache=4096, text=2048, stride=4, top=64, steps=100),
}


# The untrained control differs much from seed to seed.
PRECACHE = study_setup.PRECACHE | {
  "cpu": dataclasses.replace(study_setup.PRECACHE["cpu"], seeds=8)
}


def plan(study: Study, scale: ProbeScale) -> probe_models.ProbePlan:
  """What to probe for on the study's task."""
  task = study.problem.task
  count = scale.text if study.on_text else scale.precache
  batch = held_out_batch(study.problem, count)
  if isinstance(task, Precache):
    return targets.precache_plan(task, batch.inputs)
  windows = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
  return targets.text_plan(
    cast(Text, task),
    windows,
    top=scale.top,
    stride=scale.stride,
    steps=scale.steps,
  )


def probe_all(
  study: Study,
  asked: probe_models.ProbePlan,
  subjects: Sequence[trained_models.Subject],
) -> tuple[list[ProbeResults], list[ProbeResults]]:
  """Probes every variant, and once for each forward the untrained models."""
  shape, key = study.problem.model, jax.random.key(0)
  found, controls = [], {}
  # Fullest first, so that a diverged seed takes no control from the others.
  for each in sorted(subjects, key=lambda subject: -len(subject.seeds)):
    kept = each.decoder.variant.keeps_forward
    # Variants of one forward share its compiled program and its control.
    decoder = Decoder(shape) if kept else each.decoder
    if decoder not in controls:
      fresh = each.untrained()
      controls[decoder] = ProbeResults(
        fresh.variant if kept else f"{fresh.variant} {each.variant}",
        fresh.seeds,
        probe_models.probe_models(asked, decoder, fresh.params, key),
      )
    scores = probe_models.probe_models(asked, decoder, each.params, key)
    found.append(
      ProbeResults(each.variant, each.seeds, scores, controls[decoder])
    )
  order = [subject.variant for subject in subjects]
  found.sort(key=lambda probed: order.index(probed.variant))
  return found, list(controls.values())


def results(
  study: Study,
  asked: probe_models.ProbePlan,
  found: Sequence[ProbeResults],
  controls: Sequence[ProbeResults],
  diverged: Mapping[str, Sequence[int]],
  draw: Callable[..., None],
) -> results_writer.Results:
  """Tables, curves and claims."""
  config, known = study.problem.model, asked.baselines
  stream = residual_sites(config)
  sites = sum(probe_models.site_groups(config), ())
  inside = tuple(site for site in sites if site not in stream)
  if study.on_text:
    curve = [targets.token_name(tau) for tau in range(targets.AHEAD + 1)]
    score, keyed = ACCURACY, [targets.token_name(tau) for tau in (0, 1, 2)]
    tables = {(ACCURACY, stream): keyed, (NATS, stream): keyed}
    tables[LEAST_SQUARES, inside] = [targets.token_name(2)]
    if asked.values is not None:
      tables[R2, stream] = list(asked.values.names)
    name, xlabel, site = "tokens.png", "tau, tokens after n", stream[-1]
  else:
    lags = cast(Precache, study.problem.task).terms + targets.BEYOND
    curve = [targets.sine_name(lag) for lag in range(lags + 1)]
    score, keyed = R2, ["x[n]", targets.sine_name(0)]
    keyed += [targets.sum_name(0), targets.sum_name(1)]
    tables = {(R2, stream): keyed, (R2, inside): [targets.sine_name(0)]}
    name, xlabel, site = "lags.png", "lag i of sin(b x[n-i])", stream[1]
  places = np.linspace(0, config.layers, min(len(stream), _PANELS)).round()
  shown = [stream[int(place)] for place in places]
  every = [*found, *controls]
  draw(name, probes.panels(every, known, score, shown, curve, xlabel))
  metrics = {
    each.variant: {
      seed: {
        f"{score}/{target}/{at}": each.values(score, at, target)[seed]
        for at in stream
        for target in keyed
      }
      for seed in each.seeds
    }
    for each in every
  }
  shown_tables = {
    f"{score}, held out, {'stream' if sites is stream else 'inside blocks'}": (
      probes.score_table(found, known, score, sites, names)
    )
    for (score, sites), names in tables.items()
    if sites
  }
  paired = probes.differences(found, score, site, keyed)
  if paired:
    shown_tables[f"Paired differences of {score} at {site}"] = (
      reporting.comparison_table(paired)
    )
  return results_writer.Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    claims=probes.claims(config, found, known, study.on_text, study.source),
    tables=shown_tables,
    figures={
      name: f"{score} of probes of the residual stream on held-out sequences,"
      " mean over seeds with 95% t bands."
    },
    cells=results_writer.seed_cells(metrics, diverged),
    measurements=probes.measurements(every, known),
    notes=[note(asked)],
  )


def note(asked: probe_models.ProbePlan) -> str:
  """How much was fitted and scored."""
  count, places = len(asked.inputs), len(asked.positions)
  return (
    f"Probes were fitted on {count // 2} and scored on {count - count // 2}"
    f" other held-out sequences, at {places} positions of each,"
    f" {asked.positions[0]}..{asked.positions[-1]}. Shuffled targets are in"
    " random order over sequences and positions, so a probe that scores on them"
    f" fits noise; what needs no model, the {targets.OBSERVED} shows."
  )


def main() -> None:
  """Checks the flags, then trains, probes and reports."""
  study = study_setup.build(
    "probes",
    "What hidden states hold",
    ARMS,
    precache=PRECACHE,
  )
  scale = presets.chosen(SCALES)
  asked = plan(study, scale)
  study = dataclasses.replace(
    study, config={**study.config, "probes": dataclasses.asdict(scale)}
  )
  with study.open_run() as store:
    subjects = study.subjects(store)
    found, controls = probe_all(study, asked, subjects)

    def draw(name: str, panels: Sequence[figures.Curves]) -> None:
      figures.panels_figure(
        store.figures / name,
        [panels],
        title=study.title,
        setup=f"{study.setup}; {len(found[0].seeds)} seeds",
      )

    diverged = trained_models.diverged_seeds(subjects)
    results_writer.write(
      store, results(study, asked, found, controls, diverged, draw)
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(precache=PRECACHE, attention=ARMS),
    says=study_setup.SAYS,
  )
