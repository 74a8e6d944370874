"""What an ablation says: gaps between variants, paired by seed, and claims.

The ladder of an ablation runs from ordinary training down to no attention:
`causal`, `myopic/residual`, `myopic/kv`, `self_only`. The myopia gap
loss(myopic/kv) - loss(causal) splits at `myopic/residual` into an upstream
part, lost when later positions cannot ask for features in the residual stream,
and a projection part, lost when they cannot ask W_K and W_V either.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlook.stats import intervals

CAUSAL = "causal"
RESIDUAL = "myopic/residual"
KV = "myopic/kv"
SELF_ONLY = "self_only"
LADDER = (CAUSAL, RESIDUAL, KV, SELF_ONLY)

PARTS = {
  (RESIDUAL, CAUSAL): "upstream part",
  (KV, RESIDUAL): "projection part",
  (KV, CAUSAL): "myopia gap",
}

Values = Mapping[int, float]


def source_of(stop: str, published: str) -> str:
  """Where a claim comes from: the published runs cut at `residual` only."""
  if stop == "residual":
    return published
  return "jaxlook's own; the published runs cut at the residual stream"


def by_variant(
  cells: Sequence[Mapping[str, Any]], metric: str, setting: str = ""
) -> dict[str, dict[int, float]]:
  """The values of one metric by variant and seed, of the cells that are done.

  Args:
    cells: `cells` of a result.
    metric: the metric's name.
    setting: the setting to take the cells of; empty where there is but one.

  Returns:
    {variant: {seed: value}}; a variant whose seeds all diverged is empty.
  """
  values: dict[str, dict[int, float]] = {}
  for cell in cells:
    if cell.get("setting", "") == setting:
      of_variant = values.setdefault(cell["variant"], {})
      if cell["status"] == "done":
        of_variant[cell["seed"]] = cell["metrics"][metric]
  return values


def diverged(
  cells: Sequence[Mapping[str, Any]], setting: str = ""
) -> dict[str, list[int]]:
  """The seeds that diverged, by variant.

  Args:
    cells: `cells` of a result.
    setting: as of `by_variant`.
  """
  lost: dict[str, list[int]] = {}
  for cell in cells:
    if cell.get("setting", "") == setting:
      of_variant = lost.setdefault(cell["variant"], [])
      if cell["status"] == "diverged":
        of_variant.append(cell["seed"])
  return lost


def differences(
  values: Mapping[str, Values],
) -> dict[str, intervals.Comparison]:
  """Paired differences between the variants of the ladder.

  Args:
    values: a loss by variant and seed.

  Returns:
    By a name that says what is subtracted: every step down the ladder, and the
    whole gap; then every other variant against `causal`. Pairs with fewer than
    two seeds in common are left out.
  """
  pairs = [
    *itertools.pairwise(LADDER),
    (CAUSAL, KV),
    *((CAUSAL, v) for v in values if v not in LADDER),
  ]
  found = {}
  for low, high in pairs:
    if low not in values or high not in values:
      continue
    if len(values[low].keys() & values[high].keys()) < 2:
      continue
    name = f"{high} - {low}"
    if part := PARTS.get((high, low)):
      name += f" ({part})"
    found[name] = intervals.compare(values[high], values[low])
  return found


def ladder_claims(
  values: Mapping[str, Values], unit: str, source: str, setting: str = ""
) -> list[intervals.Claim]:
  """The order of the ladder and the size of the gap, as claims.

  Args:
    values: a loss by variant and seed.
    unit: its unit.
    source: where the step from causal to myopic/residual is claimed, which is
      the published cut; the other steps are jaxlook's own.
    setting: put before the claims' ids where there are several settings.

  Returns:
    One claim for every step of the ladder and for the gap that both ends were
    trained for with at least two seeds in common.
  """
  tiny = float(np.nextafter(0.0, 1.0))
  ours = "jaxlook's own; the published runs have no such arm"
  wanted = (
    (RESIDUAL, CAUSAL, "upstream", tiny, "is lower than", source),
    (KV, RESIDUAL, "projection", tiny, "is lower than", ours),
    (KV, CAUSAL, "gap", tiny, "is lower than", ours),
    (SELF_ONLY, KV, "floor", 0.0, "is at most", ours),
  )
  claims = []
  for high, low, name, bound, relation, claimed in wanted:
    shared = values.get(high, {}).keys() & values.get(low, {}).keys()
    if len(shared) < 2:
      continue
    claims.append(
      intervals.claim(
        "/".join(part for part in (setting, name) if part),
        f"the loss of {low} {relation} that of {high}; the estimate is"
        f" {high} minus {low}, paired by seed",
        claimed,
        unit,
        intervals.compare(values[high], values[low]),
        low=bound,
      )
    )
  return claims


def disjoint(values: Mapping[str, Values]) -> str:
  """Whether the 95% intervals of the ladder's first three arms are disjoint.

  Args:
    values: a loss by variant and seed.

  Returns:
    A sentence for the report; empty where an arm has fewer than two seeds.
  """
  arms = LADDER[:3]
  if any(len(values.get(arm, {})) < 2 for arm in arms):
    return ""
  ends = [
    intervals.mean_interval(list(values[arm].values())).ci95 for arm in arms
  ]
  apart = all(low[1] < high[0] for low, high in itertools.pairwise(ends))
  return (
    f"In the order {' < '.join(arms)} the 95% t intervals of the means are"
    f" {'disjoint' if apart else 'not disjoint and ascending'}."
  )
