"""The report of `language`: claims and notes on held-out losses."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.common.model_sizes import SAME_START
from experiments.common.text_setup import SOURCE, UNIT
from experiments.setups.language_setup import PRECISIONS
from jaxlook import stats
from jaxlook.stats import myopia_gap
from jaxlook.stats.claims import ABOVE_0, PAIRED, Statement, changes, judged
from jaxlook.tasks.text import Text

ZERO_CONTEXT = "zero_context"
_BIGRAM_MARGIN = 0.1
_PRECISION_SHARE = 0.1
_OURS = "jaxlook's own"


def claims(
  bigram: float,
  values: Mapping[str, Mapping[int, float]],
  local_variants: Sequence[str],
  setting: str = "",
) -> list[stats.Claim]:
  """The ladder, zero_context against bigram counts, and the local bonus.

  Args:
    bigram: the loss of bigram counts.
    values: held-out loss by variant and seed.
    local_variants: names of the variants that read the causal model.
    setting: the setting of these values; empty if there is only one.

  Returns:
    Claims; none from fewer than two seeds.
  """
  prefix = f"{setting}/" if setting else ""
  made = myopia_gap.ladder_claims(values, UNIT, SOURCE, setting)
  losses = list(values.get(ZERO_CONTEXT, {}).values())
  if len(losses) >= 2:
    made.append(
      stats.claim(
        f"{prefix}bigram",
        f"the loss of {ZERO_CONTEXT} is within {_BIGRAM_MARGIN} nats/token of"
        " the loss of bigram counts; the estimate is the difference",
        _OURS,
        UNIT,
        stats.mean_interval(np.asarray(losses) - bigram),
        low=-_BIGRAM_MARGIN,
        high=_BIGRAM_MARGIN,
      )
    )
  return made + judged(
    Statement(
      id=f"{prefix}{local}/bonus",
      statement="the local myopia bonus is positive; the estimate is causal"
      f" minus {local}",
      source=myopia_gap.source_of(local.partition("/")[2], SOURCE),
      unit=UNIT,
      values=changes(values[myopia_gap.CAUSAL], values[local]),
      bounds=ABOVE_0,
      pairing=PAIRED,
    )
    for local in values
    if local in local_variants
  )


def precision_claims(
  values: Mapping[str, Mapping[str, Mapping[int, float]]],
) -> list[stats.Claim]:
  """Whether the gaps are the same in both precisions, seed by seed.

  Args:
    values: held-out loss by precision, variant and seed.

  Returns:
    One claim for each variant; none if a precision is missing.
  """
  if set(values) != set(PRECISIONS):
    return []
  reference, other = PRECISIONS
  return judged(
    Statement(
      id=f"precision/{variant}",
      statement=f"{variant} minus {myopia_gap.CAUSAL} is the same in both"
      f" precisions within {_PRECISION_SHARE:.0%}; the estimate is the gap in"
      f" {other} over the gap in {reference}, minus 1",
      source=_OURS,
      unit="share of a seed's gap",
      values=_relative_change(values[reference], values[other], variant),
      bounds={"low": -_PRECISION_SHARE, "high": _PRECISION_SHARE},
      pairing=PAIRED,
    )
    for variant in values[reference]
    if variant != myopia_gap.CAUSAL
  )


def notes(text: Text, *, same_start: bool) -> tuple[str, ...]:
  """Notes that a reader of the losses needs.

  Args:
    text: the task.
    same_start: whether all seeds start from the same pretrained weights.

  Returns:
    Paragraphs.
  """
  length = (
    f"A token has {text.valid_bytes_per_token:.3f} bytes on average, in the"
    " text from which the held-out windows are taken."
  )
  return (length, SAME_START) if same_start else (length,)


def _relative_change(
  reference: Mapping[str, Mapping[int, float]],
  other: Mapping[str, Mapping[int, float]],
  variant: str,
) -> np.ndarray:
  """A variant's gap in the other precision over the reference's, minus 1."""
  arms = [
    values[name]
    for values in (reference, other)
    for name in (variant, myopia_gap.CAUSAL)
  ]
  seeds = sorted(set.intersection(*(set(arm) for arm in arms)))
  losses = np.array([[arm[seed] for seed in seeds] for arm in arms])
  reference_gap, other_gap = losses[0] - losses[1], losses[2] - losses[3]
  # A ratio for each seed, so that the interval includes seed variance.
  with np.errstate(divide="ignore", invalid="ignore"):
    return other_gap / reference_gap - 1.0
