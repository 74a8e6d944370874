"""The myopia gap: differences between variants, paired by seed, and claims.

The ladder is a list of variants from ordinary training to no attention:
`causal`, `myopic/residual`, `myopic/kv`, `self_only`. The myopia gap
loss(myopic/kv) - loss(causal) is the sum of two parts. The upstream part,
loss(myopic/residual) - loss(causal), is lost when later losses send no gradient
into the residual stream at earlier positions. The projection part is lost when
they send none to W_K and W_V at earlier positions either.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxlook.stats import intervals
from jaxlook.stats.claims import (
  ABOVE_0,
  PAIRED,
  Claim,
  Statement,
  changes,
  claim,
  judged,
)

CAUSAL = "causal"
RESIDUAL = "myopic/residual"
KV = "myopic/kv"
SELF_ONLY = "self_only"
CUTS = (RESIDUAL, KV)
LADDER = (CAUSAL, *CUTS, SELF_ONLY)

PARTS = {
  (RESIDUAL, CAUSAL): "upstream part",
  (KV, RESIDUAL): "projection part",
  (KV, CAUSAL): "myopia gap",
}

EXPLORATORY = "exploratory: asked for, not predicted"

Values = Mapping[int, float]


def source_of(stop: str, published: str) -> str:
  """Returns a claim's source; published runs exist for `residual` only."""
  if stop == "residual":
    return published
  return "jaxlook's own; the published runs cut at the residual stream"


def by_variant(
  cells: Sequence[Mapping[str, Any]], metric: str, setting: str = ""
) -> dict[str, dict[int, float]]:
  """Returns one metric by variant and seed, from the cells that are done.

  Args:
    cells: `cells` of a result.
    metric: the metric's name.
    setting: the setting whose cells to use; empty if there is only one.

  Returns:
    {variant: {seed: value}}; empty for a variant whose seeds all diverged.
  """
  values: dict[str, dict[int, float]] = {}
  for cell in cells:
    if cell.get("setting", "") == setting:
      by_seed = values.setdefault(cell["variant"], {})
      if cell["status"] == "done":
        by_seed[cell["seed"]] = cell["metrics"][metric]
  return values


def diverged(
  cells: Sequence[Mapping[str, Any]], setting: str = ""
) -> dict[str, list[int]]:
  """Returns the seeds that diverged, by variant.

  Args:
    cells: `cells` of a result.
    setting: see `by_variant`.
  """
  lost: dict[str, list[int]] = {}
  for cell in cells:
    if cell.get("setting", "") == setting:
      by_seed = lost.setdefault(cell["variant"], [])
      if cell["status"] == "diverged":
        by_seed.append(cell["seed"])
  return lost


def differences(
  values: Mapping[str, Values],
) -> dict[str, intervals.Comparison]:
  """Compares the variants, paired by seed.

  Args:
    values: a loss by variant and seed.

  Returns:
    The differences by a name that says what is subtracted: every step of the
    ladder and the whole gap, then every other variant minus `causal`. Pairs
    with fewer than two seeds in common are left out.
  """
  pairs = [
    *itertools.pairwise(LADDER),
    (CAUSAL, KV),
    *((CAUSAL, v) for v in values if v not in LADDER),
  ]
  result = {}
  for low, high in pairs:
    if low not in values or high not in values:
      continue
    if len(values[low].keys() & values[high].keys()) < 2:
      continue
    name = f"{high} - {low}"
    if part := PARTS.get((high, low)):
      name += f" ({part})"
    result[name] = intervals.compare(values[high], values[low])
  return result


def ladder_claims(
  values: Mapping[str, Values], unit: str, source: str, setting: str = ""
) -> list[Claim]:
  """Claims the order of the ladder and the sign of the gap.

  Args:
    values: a loss by variant and seed.
    unit: its unit.
    source: the source of the step from causal to myopic/residual, which is the
      published cut; the other steps are jaxlook's own.
    setting: prefix of the claims' ids if there are several settings.

  Returns:
    One claim for each step of the ladder and for the gap, if both variants
    have at least two seeds in common.
  """
  above_0 = float(np.nextafter(0.0, 1.0))
  ours = "jaxlook's own; the published runs have no such arm"
  steps = (
    (RESIDUAL, CAUSAL, "upstream", above_0, "is lower than", source),
    (KV, RESIDUAL, "projection", above_0, "is lower than", ours),
    (KV, CAUSAL, "gap", above_0, "is lower than", ours),
    (SELF_ONLY, KV, "floor", 0.0, "is at most", ours),
  )
  claims = []
  for high, low, name, bound, relation, claim_source in steps:
    shared = values.get(high, {}).keys() & values.get(low, {}).keys()
    if len(shared) < 2:
      continue
    claims.append(
      claim(
        "/".join(part for part in (setting, name) if part),
        f"the loss of {low} {relation} that of {high}; the estimate is"
        f" {high} minus {low}, paired by seed",
        claim_source,
        unit,
        intervals.compare(values[high], values[low]),
        low=bound,
      )
    )
  return claims


def exploratory_claims(
  values: Mapping[str, Values],
  unit: str,
  setting: str = "",
  but: Collection[str] = (),
) -> list[Claim]:
  """Claims that causal is better than every variant outside the ladder.

  For variants that nobody has made a prediction about.

  Args:
    values: a loss by variant and seed.
    unit: its unit.
    setting: prefix of the claims' ids if there are several settings.
    but: variants that have claims of their own.

  Returns:
    One claim for each variant that has at least two seeds in common with
    causal, in the order of `values`.
  """
  return judged(
    Statement(
      id="/".join(part for part in (setting, "exploratory", name) if part),
      statement=f"the loss of {CAUSAL} is lower than that of {name}; the"
      f" estimate is {name} minus {CAUSAL}, paired by seed",
      source=EXPLORATORY,
      unit=unit,
      values=changes(by_seed, values[CAUSAL]),
      bounds=ABOVE_0,
      pairing=PAIRED,
    )
    for name, by_seed in values.items()
    if name not in (*LADDER, *but) and CAUSAL in values
  )


def disjoint(values: Mapping[str, Values]) -> str:
  """Says whether the intervals of the ladder's first three arms are disjoint.

  Args:
    values: a loss by variant and seed.

  Returns:
    A sentence for the report; empty if an arm has fewer than two seeds.
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
