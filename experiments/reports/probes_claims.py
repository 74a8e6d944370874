"""The claims of `probes`, with sources and verdicts."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from jaxlook import stats
from jaxlook.models.config import DecoderConfig
from jaxlook.models.sites import residual_site
from jaxlook.probing import targets
from jaxlook.probing.probe_models import ProbeResults
from jaxlook.probing.probe_plans import ACCURACY, OBSERVED, R2, Baselines
from jaxlook.stats.claims import ABOVE_0
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL, source_of

_OWN = "jaxlook's own"
_SINE = 0.8
_MARGIN = 0.1


def claims(
  config: DecoderConfig,
  found: Sequence[ProbeResults],
  baselines: Baselines,
  on_text: bool,
  source: str,
) -> list[stats.Claim]:
  """The claims on sines (pre-caching) or on later tokens (text).

  Args:
    config: the models' shape.
    found: the scores of every variant.
    baselines: scores that need no model.
    on_text: whether the models were trained on text, not on pre-caching.
    source: of the published claims.

  Returns:
    Claims; none from fewer than two seeds.
  """
  if on_text:
    return _text_claims(config, found, baselines)
  return _precache_claims(config, found, baselines, source)


def _text_claims(
  config: DecoderConfig, found: Sequence[ProbeResults], baselines: Baselines
) -> list[stats.Claim]:
  """Models know the token after next; without future gradient, less so."""
  probed = _Probed(
    words="accuracy of probes for the token n+2 after the last block",
    unit="share",
    score=ACCURACY,
    site=residual_site(config, config.layers),
    target=targets.token_name(2),
  )
  return [
    *_against_controls(probed, found, baselines),
    *probed.above(
      "ahead",
      f"{CAUSAL} minus {KV} is above 0",
      probed.difference(found, CAUSAL, KV),
    ),
  ]


def _precache_claims(
  config: DecoderConfig,
  found: Sequence[ProbeResults],
  baselines: Baselines,
  source: str,
) -> list[stats.Claim]:
  """Causal models compute the sine that later positions need, myopic do not."""
  probed = _Probed(
    words="R^2 of sin(b x_n) after block 1 at n",
    unit="R^2",
    score=R2,
    site=residual_site(config, 1),
    target=targets.sine_name(0),
  )
  return [
    *probed.claim(
      "sine",
      f"{CAUSAL}'s is above {_SINE} (published: 0.985 at b = 10)",
      source,
      probed.mean(found, CAUSAL),
      low=math.nextafter(_SINE, 1.0),
    ),
    *_against_controls(probed, found, baselines),
    *(
      claim
      for id, variant in (("kv", KV), ("residual", RESIDUAL))
      for claim in probed.claim(
        id,
        f"{variant} minus untrained is at most {_MARGIN}",
        source_of(id, source),
        probed.difference(found, variant),
        high=_MARGIN,
      )
    ),
  ]


def _against_controls(
  probed: "_Probed", found: Sequence[ProbeResults], baselines: Baselines
) -> list[stats.Claim]:
  """Causal models beat untrained ones and a probe on the inputs."""
  observed = baselines[probed.score][OBSERVED][probed.target]
  return [
    *probed.above(
      "learned",
      f"{CAUSAL} minus untrained is above 0",
      probed.difference(found, CAUSAL),
    ),
    *probed.above(
      "observable",
      f"{CAUSAL} minus the {OBSERVED} is above 0",
      probed.mean(found, CAUSAL, minus=observed),
    ),
  ]


@dataclasses.dataclass(frozen=True)
class _Probed:
  """The score that claims are about.

  Attributes:
    words: the score in words.
    unit: its unit.
    score: the kind of score.
    site: the site that probes read.
    target: the target of the probes.
  """

  words: str
  unit: str
  score: str
  site: str
  target: str

  def values(self, each: ProbeResults) -> dict[int, float]:
    """The score of each seed."""
    return each.values(self.score, self.site, self.target)

  def mean(
    self, found: Sequence[ProbeResults], variant: str, *, minus: float = 0.0
  ) -> stats.Interval | None:
    """A variant's mean minus a level; None for fewer than two seeds."""
    for each in found:
      if each.variant == variant and len(each.seeds) >= 2:
        values = np.array(list(self.values(each).values()))
        return stats.mean_interval(values - minus)
    return None

  def difference(
    self, found: Sequence[ProbeResults], variant: str, other: str | None = None
  ) -> stats.Comparison | None:
    """A variant minus another, or its untrained control, paired by seed."""
    by = {each.variant: each for each in found}
    first = by.get(variant)
    second = by.get(other) if other else first and first.control
    if first is None or second is None:
      return None
    a, b = self.values(first), self.values(second)
    return stats.compare(a, b) if len(a.keys() & b.keys()) >= 2 else None

  def claim(
    self,
    id: str,
    words: str,
    source: str,
    evidence: stats.Interval | None,
    **bounds: float,
  ) -> list[stats.Claim]:
    """A list with the claim; empty if there is no evidence."""
    if evidence is None:
      return []
    return [
      stats.claim(
        id,
        f"{self.words}: {words}",
        source,
        self.unit,
        evidence,
        **bounds,
      )
    ]

  def above(
    self, id: str, words: str, evidence: stats.Interval | None
  ) -> list[stats.Claim]:
    """The claim that a difference is above 0; jaxlook's own."""
    return self.claim(id, words, _OWN, evidence, **ABOVE_0)
