"""What probes say: tables, curves, claims and measurements."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jaxlook import stats
from jaxlook.models.config import DecoderConfig
from jaxlook.models.sites import residual_site
from jaxlook.probing import targets
from jaxlook.probing.probe_models import BASELINE, PROBE, SHUFFLED, ProbeResults
from jaxlook.probing.targets import ACCURACY, OBSERVED, R2, Baselines
from jaxlook.reporting.figures import Curves
from jaxlook.reporting.tables import Rows, interval, number
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL, source_of

_OWN = "jaxlook's own"
_SINE = 0.8
_MARGIN = 0.1
_POSITIVE = math.nextafter(0.0, 1.0)


def claims(
  config: DecoderConfig,
  found: Sequence[ProbeResults],
  baselines: Baselines,
  on_text: bool,
  source: str,
) -> list[stats.Claim]:
  """Sines without gradient from later positions; tokens after the next.

  Args:
    config: the models' shape.
    found: the scores of every variant.
    baselines: what is known without a model.
    on_text: whether tokens were probed for, and not the pre-caching task.
    source: of the published claims.

  Returns:
    Claims; none from fewer than two seeds.
  """
  by = {each.variant: each for each in found}
  if on_text:
    at = (ACCURACY, residual_site(config, config.layers), targets.token_name(2))
    what, unit = "accuracy of the token n+2 after the last block", "share"
  else:
    at = (R2, residual_site(config, 1), targets.sine_name(0))
    what, unit = "R^2 of sin(b x_n) after block 1 at n", "R^2"
  claimed: list[stats.Claim] = []

  def claim(id, words, source, evidence: stats.Interval | None, **bounds):
    if evidence is not None:
      words = f"{what}: {words}"
      claimed.append(stats.claim(id, words, source, unit, evidence, **bounds))

  def difference(variant: str, other: str | None = None):
    first = by.get(variant)
    second = by.get(other) if other else first and first.control
    if first is None or second is None:
      return None
    a, b = first.values(*at), second.values(*at)
    return stats.compare(a, b) if len(a.keys() & b.keys()) >= 2 else None

  if not on_text and CAUSAL in by:
    values = list(by[CAUSAL].values(*at).values())
    mean = stats.mean_interval(values) if len(values) >= 2 else None
    words = f"{CAUSAL}'s is above {_SINE} (published: 0.985 at b = 10)"
    low = math.nextafter(_SINE, 1.0)
    claim("sine", words, source, mean, low=low)
  words = f"{CAUSAL} minus untrained is above 0"
  claim("learned", words, _OWN, difference(CAUSAL), low=_POSITIVE)
  if CAUSAL in by:
    values = list(by[CAUSAL].values(*at).values())
    over = np.array(values) - baselines[at[0]][OBSERVED][at[2]]
    mean = stats.mean_interval(over) if len(over) >= 2 else None
    words = f"{CAUSAL} minus the {OBSERVED} is above 0"
    claim("observable", words, _OWN, mean, low=_POSITIVE)
  if on_text:
    words = f"{CAUSAL} minus {KV} is above 0"
    claim("ahead", words, _OWN, difference(CAUSAL, KV), low=_POSITIVE)
  else:
    for id, variant in (("kv", KV), ("residual", RESIDUAL)):
      words = f"{variant} minus untrained is at most {_MARGIN}"
      where = source_of(id, source)
      claim(id, words, where, difference(variant), high=_MARGIN)
  return claimed


def score_table(
  found: Sequence[ProbeResults],
  baselines: Baselines,
  score: str,
  sites: Sequence[str],
  names: Sequence[str],
) -> Rows:
  """One row a target, site and variant: its score beside its controls.

  Returns:
    A header and the rows: means over seeds, with 95% t intervals from 2 seeds
    on, and baselines, which have no seeds.
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
    By name; only where two seeds are in both.
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
  """A panel for each site: the scores of targets number 0, 1, 2 ... as curves.

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
  """Every number, one a row.

  Returns:
    Columns variant, seed, site, target, score, kind (`PROBE`, `SHUFFLED` or
    `BASELINE`), position (null: all together) and value. Untrained models are a
    variant; baselines have no seed and no site.
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
