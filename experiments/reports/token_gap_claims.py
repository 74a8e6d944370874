"""The claims of `token_gap`: the published curve, and classes of tokens."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats

from jaxlook import stats
from jaxlook.lookahead import token_classes as classes
from jaxlook.lookahead import token_gap
from jaxlook.lookahead.token_classes import TokenKind
from jaxlook.stats.claims import ABOVE_0, PAIRED, Statement, judged
from jaxlook.stats.myopia_gap import source_of

WU = "Wu et al. 2024, arXiv 2404.00859, published code, pos_v_loss.ipynb"
OURS = "jaxlook's own; not measured before, as far as we found"
UNIT = "nats/token"
_FAR = 8  # Least distance of an earlier occurrence that counts as far.


@dataclasses.dataclass(frozen=True, eq=False)
class VariantLosses:
  """A variant's losses on held-out text, next to those of ordinary training.

  Attributes:
    variant: the variant as in the flag.
    seeds: the seeds with finite losses in both.
    plain: losses of ordinary training, nats, [E, W, T].
    loss: losses of the variant on the same seeds and tokens, nats, [E, W, T].
  """

  variant: str
  seeds: tuple[int, ...]
  plain: np.ndarray
  loss: np.ndarray

  @property
  def gap(self) -> np.ndarray:
    """The variant's loss minus ordinary training's, float64 [E, W, T]."""
    return self.loss.astype(np.float64) - self.plain


def claims(
  gaps: Sequence[VariantLosses], kinds: Mapping[str, TokenKind]
) -> list[stats.Claim]:
  """On which positions and classes the gap of every variant is large.

  Args:
    gaps: the losses of each variant.
    kinds: the kinds of tokens.

  Returns:
    The claims with at least two seeds.
  """
  return judged(
    statement
    for each in gaps
    for statement in (*_by_position(each), *_by_kind(each, kinds))
  )


def _by_position(each: VariantLosses) -> list[Statement]:
  """The published curve: at most 0 at the start, then rising."""
  curve = token_gap.by_position(each.gap)
  late = curve[:, -max(curve.shape[1] // 4, 1) :].mean(axis=1)
  places = np.arange(curve.shape[1])
  # A rank correlation ignores the steepness and is robust to single positions.
  rise = np.array(
    [
      np.corrcoef(places, scipy.stats.rankdata(row))[0, 1]
      if np.ptp(row)
      else 0.0
      for row in curve
    ]
  )
  source = source_of(each.variant.partition("/")[2], WU)

  def stated(
    *,
    name: str,
    text: str,
    unit: str,
    values: np.ndarray,
    bounds: Mapping[str, float],
  ) -> Statement:
    return Statement(
      id=f"{each.variant}/{name}",
      statement=f"{each.variant} minus causal: {text}",
      source=source,
      unit=unit,
      values=values,
      bounds=bounds,
      pairing=PAIRED,
    )

  return [
    stated(
      name="W10/start",
      text="the gap at position 0 is 0 or below",
      unit=UNIT,
      values=curve[:, 0],
      bounds={"high": 0.0},
    ),
    stated(
      name="W10/late",
      text="the gap is larger in the last quarter of the positions than at"
      " position 0; the estimate is the difference",
      unit=UNIT,
      values=late - curve[:, 0],
      bounds=ABOVE_0,
    ),
    stated(
      name="W10/rise",
      text="the gap rises with the position: the rank correlation of gap and"
      " position is above 0",
      unit="correlation",
      values=rise,
      bounds=ABOVE_0,
    ),
  ]


def _by_kind(
  each: VariantLosses, kinds: Mapping[str, TokenKind]
) -> list[Statement]:
  """Claims that one of two classes has the larger gap, at equal positions."""
  frequency, distance = kinds[classes.FREQUENCY], kinds[classes.DISTANCE]
  again = kinds[classes.REPEATED].mask(classes.AGAIN)
  far = [
    label
    for label in distance.classes
    if label != classes.NEW and int(label.partition("..")[0]) >= _FAR
  ]
  is_far = np.any([distance.mask(label) for label in far], axis=0) & again
  rare, common = frequency.classes[0], frequency.classes[-1]
  word, line = kinds[classes.WORD], kinds[classes.LINE]
  repeated = kinds[classes.REPEATED]
  pairs = {
    "repeated": (
      "repeated tokens than on new ones",
      again,
      repeated.mask(classes.NEW),
    ),
    "far": (
      f"tokens last seen {_FAR} or more positions back than on nearer ones",
      is_far,
      again & ~is_far,
    ),
    "continues": (
      "tokens that continue a word than on tokens that begin one",
      word.mask(classes.CONTINUES),
      word.mask(classes.BEGINS),
    ),
    "rare": (
      "tokens of the rarest bin than on those of the commonest",
      frequency.mask(rare),
      frequency.mask(common),
    ),
    "line": (
      "tokens after a line break than on tokens within a line",
      line.mask(classes.AFTER_BREAK),
      line.mask(classes.WITHIN_LINE),
    ),
  }
  return [
    Statement(
      id=f"{each.variant}/{name}",
      statement=f"the gap of {each.variant} is larger on {text}, at equal"
      " positions; the estimate is the difference",
      source=OURS,
      unit=UNIT,
      values=token_gap.contrast(each.gap, these, those),
      bounds=ABOVE_0,
      pairing=PAIRED,
    )
    for name, (text, these, those) in pairs.items()
  ]
