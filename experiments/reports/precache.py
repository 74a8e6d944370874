"""The claims of `precache` on held-out losses."""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

from experiments.common import precache_setup
from experiments.common.precache_setup import SOURCE, UNIT, PrecacheConfig
from jaxlook import stats
from jaxlook.stats import myopia_gap
from jaxlook.training import Problem


class _Published(NamedTuple):
  """A published loss, in Huber/p.

  Attributes:
    id: of the claim.
    variant: whose loss it is.
    low: the smallest loss that agrees with it.
    high: the largest loss that agrees with it.
    words: the range in words, for the claim's statement.
    source: where it is published.
  """

  id: str
  variant: str
  low: float
  high: float
  words: str
  source: str


_PUBLISHED = (
  _Published(
    id="W4",
    variant=myopia_gap.RESIDUAL,
    low=0.95,
    high=1.27,
    words="lies in [0.95, 1.27] (the published run at p = 1 had 3 layers)",
    source="notebook synthetic_interp of the published code",
  ),
  _Published(
    id="W5",
    variant=myopia_gap.CAUSAL,
    low=-math.inf,
    high=0.10,
    words="is at most 0.10",
    source="notes on Wu et al. 2024, second-hand",
  ),
)


def claims(
  config: PrecacheConfig,
  problem: Problem,
  values: dict[str, dict[int, float]],
) -> list[stats.Claim]:
  """Claims on the order of losses and, in the published setting, their values.

  Args:
    config: the scale.
    problem: one of its settings.
    values: held-out loss by variant and seed.

  Returns:
    Claims; none from fewer than two seeds.
  """
  made = myopia_gap.ladder_claims(values, UNIT, SOURCE, problem.setting)
  if _is_published(config):
    made += _published_claims(problem, values)
  return made


def _is_published(config: PrecacheConfig) -> bool:
  """Whether task, model and training are those of the published run."""
  paper = precache_setup.PRESETS["paper"]
  seeds = {"seeds": paper.seeds, "seed_offset": paper.seed_offset}
  return dataclasses.replace(config, p=paper.p, **seeds) == paper


def _published_claims(
  problem: Problem, values: Mapping[str, Mapping[int, float]]
) -> list[stats.Claim]:
  """Whether the losses agree with the published ones."""
  p = problem.about["p"]
  made = []
  for published in _PUBLISHED:
    losses = [loss / p for loss in values.get(published.variant, {}).values()]
    if len(losses) < 2:
      continue
    made.append(
      stats.claim(
        "/".join(part for part in (problem.setting, published.id) if part),
        f"Huber/p of {published.variant} {published.words}",
        published.source,
        "Huber/p",
        stats.mean_interval(losses),
        low=published.low,
        high=published.high,
      )
    )
  return made
