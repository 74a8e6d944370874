"""The report of `probes`: tables, the figure, cells and measurements."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from experiments.common.results_writer import Drawing, Results, seed_cells
from experiments.common.study import Study
from experiments.common.trained_models import Subject, diverged_seeds
from experiments.reports.probes_claims import claims
from jaxlook import stats
from jaxlook.models import DecoderConfig
from jaxlook.models.sites import residual_sites
from jaxlook.numerals import counted
from jaxlook.probing import probe_plans, targets
from jaxlook.probing.probe_models import (
  ACCURACY,
  BASELINE,
  LEAST_SQUARES,
  NATS,
  PROBE,
  R2,
  SHUFFLED,
  ProbePlan,
  ProbeResults,
  site_groups,
)
from jaxlook.probing.probe_plans import Baselines
from jaxlook.reporting import figures
from jaxlook.reporting.figures import Curves
from jaxlook.reporting.tables import Rows, comparison_table, interval, number
from jaxlook.tasks.precache import Precache

_PANELS = 4  # Sites in the figure.


@dataclasses.dataclass(frozen=True)
class _View:
  """Which scores and targets the report of a task shows.

  Attributes:
    score: the main score.
    names: targets of cells and of paired differences.
    tables: targets of each table, by score and sites.
    site: the site at which variants are compared.
    figure: file name of the figure.
    curve: the targets along the horizontal axis of the figure, numbered from 0.
    xlabel: what these numbers are.
  """

  score: str
  names: Sequence[str]
  tables: Mapping[tuple[str, tuple[str, ...]], Sequence[str]]
  site: str
  figure: str
  curve: Sequence[str]
  xlabel: str


def results(
  study: Study,
  subjects: Sequence[Subject],
  plan: ProbePlan,
  found: Sequence[ProbeResults],
  controls: Sequence[ProbeResults],
) -> Results:
  """Collects tables, figure, claims and measurements.

  Args:
    study: what was studied.
    subjects: the trained models.
    plan: the targets of the probes, and the sequences.
    found: scores of every variant.
    controls: scores of untrained models.

  Returns:
    The results to write.
  """
  model, known, every = study.problem.model, plan.baselines, [*found, *controls]
  stream = residual_sites(model)
  view = _text_view(model, plan) if study.on_text else _precache_view(study)
  places = np.linspace(0, model.layers, min(len(stream), _PANELS)).round()
  shown = [stream[int(place)] for place in places]
  labels = study.labels(counted(len(found[0].seeds), "seed"))
  return Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    notes=[_note(plan)],
    figures={
      view.figure: Drawing(
        lambda path: figures.panels_figure(
          path,
          [panels(every, known, view.score, shown, view.curve, view.xlabel)],
          **labels,
        ),
        f"{view.score} of probes of the residual stream on held-out sequences;"
        " mean and 95% t band over seeds.",
      )
    },
    tables=_tables(found, known, view, stream),
    claims=claims(model, found, known, study.on_text, study.source),
    cells=seed_cells(
      {each.variant: _metrics(each, view, stream) for each in every},
      diverged_seeds(subjects),
    ),
    measurements=measurements(every, known),
  )


def _inside(model: DecoderConfig) -> tuple[str, ...]:
  """The sites inside blocks, outside the residual stream."""
  stream = residual_sites(model)
  sites = sum(site_groups(model), ())
  return tuple(site for site in sites if site not in stream)


def _text_view(model: DecoderConfig, plan: ProbePlan) -> _View:
  """Targets on text: later tokens, and words if tokens are bytes."""
  stream = residual_sites(model)
  names = [targets.token_name(tau) for tau in (0, 1, 2)]
  tables = {
    (ACCURACY, stream): names,
    (NATS, stream): names,
    (LEAST_SQUARES, _inside(model)): [targets.token_name(2)],
  }
  if plan.values is not None:
    tables[R2, stream] = list(plan.values.names)
  return _View(
    score=ACCURACY,
    names=names,
    tables=tables,
    site=stream[-1],
    figure="tokens.png",
    curve=[targets.token_name(tau) for tau in range(targets.AHEAD + 1)],
    xlabel="tau, tokens after n",
  )


def _precache_view(study: Study) -> _View:
  """Targets on pre-caching: inputs, their sines, and sums of sines."""
  model = study.problem.model
  stream = residual_sites(model)
  lags = cast(Precache, study.problem.task).terms + targets.BEYOND
  names = [
    "x[n]",
    targets.sine_name(0),
    targets.sum_name(0),
    targets.sum_name(1),
  ]
  return _View(
    score=R2,
    names=names,
    tables={
      (R2, stream): names,
      (R2, _inside(model)): [targets.sine_name(0)],
    },
    site=stream[1],
    figure="lags.png",
    curve=[targets.sine_name(lag) for lag in range(lags + 1)],
    xlabel="lag i of sin(b x[n-i])",
  )


def _tables(
  found: Sequence[ProbeResults],
  known: Baselines,
  view: _View,
  stream: Sequence[str],
) -> dict[str, Rows]:
  """Scores in the stream and inside blocks, and paired differences."""
  shown = {}
  for (score, sites), names in view.tables.items():
    where = "stream" if sites == stream else "inside blocks"
    if sites:
      shown[f"{score}, held out, {where}"] = score_table(
        found, known, score, sites, names
      )
  if paired := differences(found, view.score, view.site, view.names):
    title = f"Paired differences of {view.score} at {view.site}"
    shown[title] = comparison_table(paired)
  return shown


def _metrics(
  each: ProbeResults, view: _View, stream: Sequence[str]
) -> dict[int, dict[str, float]]:
  """The main score of every site of the stream, by seed and name."""
  return {
    seed: {
      f"{view.score}/{target}/{site}": (
        each.values(view.score, site, target)[seed]
      )
      for site in stream
      for target in view.names
    }
    for seed in each.seeds
  }


def _note(plan: ProbePlan) -> str:
  """The data on which probes were fitted and scored."""
  count, places = len(plan.inputs), len(plan.positions)
  return (
    f"Probes were fitted on {count // 2} and scored on {count - count // 2}"
    f" other held-out sequences, at {places} positions of each,"
    f" {plan.positions[0]}..{plan.positions[-1]}. Shuffled targets are in"
    " random order over sequences and positions, so a probe with a score on"
    f" them fits noise. The {probe_plans.OBSERVED} shows what can be known"
    " without a model."
  )


def score_table(
  found: Sequence[ProbeResults],
  baselines: Baselines,
  score: str,
  sites: Sequence[str],
  names: Sequence[str],
) -> Rows:
  """One row per target, site and variant: the score next to its controls.

  Returns:
    A header and the rows: means over seeds, with 95% t intervals for two or
    more seeds, and baselines, which have no seeds.
  """
  levels = baselines.get(score, {})
  head = ["target", "site", "variant", score, "untrained", "shuffled"]
  lines = [[*head, *levels, "n"]]
  for name in names:
    for site in sites:
      for each in found:
        at = (score, site, name)
        own, chance = each.values(*at), each.values(*at, SHUFFLED)
        fresh = each.control.values(*at) if each.control else {}
        shown = [_mean(values) for values in (own, fresh, chance)]
        shown += [number(values[name]) for values in levels.values()]
        lines.append([name, site, each.variant, *shown, str(len(own))])
  return lines


def _mean(by_seed: Mapping[int, float]) -> str:
  values = list(by_seed.values())
  if len(values) < 2:
    return number(values[0]) if values else "-"
  found = stats.mean_interval(values)
  return f"{number(found.estimate)} {interval(found.ci95)}"


def differences(
  found: Sequence[ProbeResults], score: str, site: str, names: Sequence[str]
) -> dict[str, stats.Comparison]:
  """Selectivity (probe - shuffled) and probe - untrained, paired by seed.

  Returns:
    Comparisons by name; only those with at least two common seeds.
  """
  compared = {}
  for name in names:
    at = (score, site, name)
    for each in found:
      others = {SHUFFLED: each.values(*at, SHUFFLED)}
      if each.control is not None:
        others[each.control.variant] = each.control.values(*at)
      for label, other in others.items():
        if len(each.values(*at).keys() & other.keys()) >= 2:
          compared[f"{name}: {each.variant} - {label}"] = stats.compare(
            each.values(*at), other
          )
  return compared


def panels(
  found: Sequence[ProbeResults],
  baselines: Baselines,
  score: str,
  sites: Sequence[str],
  names: Sequence[str],
  xlabel: str,
) -> list[Curves]:
  """A panel for each site: scores along the numbered targets.

  Returns:
    Panels for `figures.panels_figure`; baselines are curves of one "seed".
  """
  levels = baselines.get(score, {})
  found_at = []
  for site in sites:
    curves = {
      each.variant: np.array(
        [list(each.values(score, site, name).values()) for name in names]
      )
      for each in found
    } | {
      label: np.array([[values[name]] for name in names])
      for label, values in levels.items()
    }
    at = np.arange(len(names))
    found_at.append(
      Curves(site, at, xlabel, f"{score}, held out", curves, scale="steps")
    )
  return found_at


def measurements(
  found: Sequence[ProbeResults], baselines: Baselines
) -> pa.Table:
  """Every number, one per row.

  Returns:
    Columns variant, seed, site, target, score, kind (`PROBE`, `SHUFFLED` or
    `BASELINE`), position (null: all positions together) and value. Untrained
    models are a variant; baselines have no seed and no site.
  """
  names = "variant seed site target score kind position value".split()
  every = [row for each in found for row in _measured(each)] + [
    (name, None, None, target, score, BASELINE, None, value)
    for score, levels in baselines.items()
    for name, values in levels.items()
    for target, value in values.items()
  ]
  return pa.table(
    dict(zip(names, map(list, zip(*every, strict=True)), strict=True))
  )


def _measured(each: ProbeResults) -> Iterator[tuple[Any, ...]]:
  def of(score: str, kind: str, array_ExLxPxK: np.ndarray, positions):
    found = each.scores[score]
    for (e, site, p, k), value in np.ndenumerate(array_ExLxPxK):
      where = (found.sites[site], found.targets.names[k], score, kind)
      yield each.variant, each.seeds[e], *where, positions[p], float(value)

  for score, found in each.scores.items():
    yield from of(score, PROBE, found.probe[:, :, None], [None])
    yield from of(score, SHUFFLED, found.shuffled[:, :, None], [None])
    if found.by_position is not None:
      yield from of(score, PROBE, found.by_position, found.targets.positions)
