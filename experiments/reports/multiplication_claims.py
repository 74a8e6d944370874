"""The claims of `multiplication`: padding, myopia, and planned digits."""

from collections.abc import Mapping

import numpy as np

from jaxlook import stats
from jaxlook.planning.products import plans
from jaxlook.planning.products.measures import ProductResults
from jaxlook.stats import myopia_gap
from jaxlook.stats.claims import ABOVE_0, BELOW_0, Statement, judged
from jaxlook.tasks.multiplication import Multiplication

Arm = tuple[str, str]
"""Setting, for example `pad=4`, and variant."""

_WU = "Wu et al. 2024, arXiv 2404.00859, and its notebook arithmetic_acc"
_OURS = "jaxlook's own; not measured before, as far as we found"
_PAIRED = "paired by seed"
_SHARE = "share of products"
FLOOR = 0.05
"""Accuracies on whole products below this are not compared."""


def whole(found: ProductResults) -> np.ndarray:
  """Share of products of full length with all digits right, [E]."""
  return found.grid[:, -1, -1]


def right(found: ProductResults) -> np.ndarray:
  """Share of products with all digits right, mean over all lengths, [E]."""
  return found.grid.mean(axis=(-2, -1))


def read_before_equals(
  task: Multiplication, found: ProductResults, part: str = "probe"
) -> np.ndarray:
  """A probe's accuracy at the end of the second operand, [E].

  Args:
    task: the task that the models were trained on.
    found: the results.
    part: `probe`, or `shuffled` for its control.

  Returns:
    The mean over digits, for the last layer's output.
  """
  place = list(plans.places(task)).index(plans.before_equals(task))
  return getattr(found, part)[:, -1, place].mean(axis=-1)


def moved_at(
  task: Multiplication, found: ProductResults, place: str
) -> np.ndarray:
  """`moved` at a place, for swaps at the last layer's input, [E]."""
  return found.effect("moved")[:, -1, list(plans.places(task)).index(place)]


def metrics(
  task: Multiplication, found: ProductResults
) -> dict[str, np.ndarray]:
  """One number per seed for each measure, [E] by name."""
  return {
    "right": right(found),
    "whole": whole(found),
    "full_loss": found.full_losses.mean(axis=-1),
    "beam_gain": found.gain,
    "beam_whole": found.found,
    "greedy_whole": found.written,
    "probe": read_before_equals(task, found),
    "probe_shuffled": read_before_equals(task, found, "shuffled"),
    **{
      f"moved {place}": moved_at(task, found, place)
      for place in plans.places(task)
    },
  }


def claims(
  tasks: Mapping[str, Multiplication],
  found: Mapping[Arm, ProductResults],
  untrained: Mapping[str, ProductResults],
) -> list[stats.Claim]:
  """The published table of padding and myopia, and claims on planned digits.

  Args:
    tasks: by setting; the first has the least padding, or none, the last has
      the most.
    found: results by arm, including `myopia_gap.CAUSAL` in each setting.
    untrained: results of models before training, by setting.

  Returns:
    The claims with at least two seeds.
  """
  bare, padded = list(tasks)[0], list(tasks)[-1]
  variants = list(dict.fromkeys(variant for _, variant in found))
  cuts = [variant for variant in variants if variant != myopia_gap.CAUSAL]
  made = []
  for variant in variants:
    made += _helps(found, (bare, padded), variant)
  for variant in cuts:
    made += _table(found, (bare, padded), variant)
  for variant in variants:
    made += _planned(
      tasks[padded], found[padded, variant], untrained[padded], variant
    )
  for variant in cuts:
    made += _less(
      tasks[padded],
      found[padded, variant],
      found[padded, myopia_gap.CAUSAL],
      variant,
    )
  return judged(made)


def _source(variant: str) -> str:
  known = (myopia_gap.CAUSAL, myopia_gap.RESIDUAL)
  return _WU if variant in known else _OURS


def _worded(setting: str) -> str:
  """Words for a setting, for example `padded to 4` for `pad=4`."""
  pad = setting.removeprefix("pad=")
  return f"padded to {pad}" if int(pad) else "not padded"


def _above_floor(shares: np.ndarray) -> bool:
  """False if the whole 95% interval lies below `FLOOR`."""
  shares = shares[np.isfinite(shares)]
  return len(shares) < 2 or stats.mean_interval(shares).ci95[1] >= FLOOR


def _helps(found, pads: tuple[str, str], variant: str) -> list[Statement]:
  """The published directions: padding helps causal and harms myopic."""
  bare, padded = (found[pad, variant] for pad in pads)
  better = variant == myopia_gap.CAUSAL
  words = (
    f"{variant}: more padding {'helps' if better else 'harms'}; the estimate is"
  )
  under = f"{_worded(pads[1])} minus that {_worded(pads[0])}"
  more, less = ("above 0", ABOVE_0), ("below 0", BELOW_0)
  (sign, bounds), (cost, losses) = (more, less) if better else (less, more)
  full = []
  # If both arms are almost never right, padding cannot help.
  if any(_above_floor(whole(each)) for each in (padded, bare)):
    full.append(
      Statement(
        f"W8/padding/full/{variant}",
        f"{words} the accuracy on whole products of full length, {under},"
        f" {sign}",
        _source(variant),
        _SHARE,
        whole(padded) - whole(bare),
        bounds,
        _PAIRED,
      )
    )
  return [
    Statement(
      f"W8/padding/{variant}",
      f"{words} the accuracy on whole products of all lengths, {under}, {sign}",
      _source(variant),
      _SHARE,
      right(padded) - right(bare),
      bounds,
      _PAIRED,
    ),
    *full,
    Statement(
      f"W8/padding/loss/{variant}",
      f"{words} the loss on products of full length, {under}, {cost}",
      "jaxlook's own; the published measure is of whole products",
      "nats/digit",
      padded.full_losses.mean(axis=-1) - bare.full_losses.mean(axis=-1),
      losses,
      _PAIRED,
    ),
  ]


def _table(found, pads: tuple[str, str], variant: str) -> list[Statement]:
  """The gaps of the 2 x 2 table, and its interaction."""
  bare, padded = pads
  plain = myopia_gap.CAUSAL
  gaps = {
    pad: right(found[pad, plain]) - right(found[pad, variant]) for pad in pads
  }
  return [
    Statement(
      f"W8/gap/{padded}/{variant}",
      f"{_worded(padded)}: ordinary training is right more often than"
      f" {variant}; the estimate is the difference, above 0",
      _source(variant),
      _SHARE,
      gaps[padded],
      ABOVE_0,
      _PAIRED,
    ),
    Statement(
      f"W8/gap/{bare}/{variant}",
      f"{_worded(bare)}: ordinary training is about as often right as"
      f" {variant}; the difference lies in [-0.05, 0.05]",
      _source(variant),
      _SHARE,
      gaps[bare],
      {"low": -0.05, "high": 0.05},
      _PAIRED,
    ),
    Statement(
      f"W8/interaction/{variant}",
      f"{_worded(padded)} instead of {_worded(bare)} helps ordinary training"
      f" more than {variant}; the estimate is the difference of the"
      " differences, above 0",
      _source(variant),
      _SHARE,
      gaps[padded] - gaps[bare],
      ABOVE_0,
      _PAIRED,
    ),
  ]


def _planned(
  task: Multiplication,
  found: ProductResults,
  fresh: ProductResults,
  variant: str,
) -> list[Statement]:
  """Whether digits are computed before `=`, and whether they are used."""
  place = plans.before_equals(task)
  read = read_before_equals(task, found)
  moved = moved_at(task, found, place)
  before = []
  if plans.PADDING_A in plans.places(task):
    before.append(
      Statement(
        f"swap/place/{variant}",
        f"{variant}: the answer depends more on the {place} than on the"
        f" {plans.PADDING_A}, where b is not known yet; the estimate is the"
        " difference of the shares of digits that become the donor's, above 0",
        _OURS,
        "share of digits",
        moved - moved_at(task, found, plans.PADDING_A),
        ABOVE_0,
        _PAIRED,
      )
    )
  return [
    Statement(
      f"probe/{variant}",
      f"{variant}: a probe at the end of the {place} reads digits of the answer"
      " better than in a model before training; the estimate is the difference"
      " of accuracies, above 0",
      _OURS,
      "accuracy",
      read - read_before_equals(task, fresh),
      ABOVE_0,
      _PAIRED,
    ),
    Statement(
      f"swap/{variant}",
      f"{variant}: the answer depends on the {place}: with the donor's stream"
      " there, at the input of the last layer, more than half of the digits"
      " that differ become the donor's",
      _OURS,
      "share of digits",
      moved,
      {"low": 0.5},
    ),
    *before,
  ]


def _less(
  task: Multiplication,
  cut: ProductResults,
  plain: ProductResults,
  variant: str,
) -> list[Statement]:
  """What a model trained with a cut lacks."""
  place = plans.before_equals(task)
  return [
    Statement(
      f"probe/less/{variant}",
      f"{variant}: a probe at the end of the {place} reads less of the answer"
      " than in ordinary training; the estimate is the difference of"
      " accuracies, below 0",
      _OURS,
      "accuracy",
      read_before_equals(task, cut) - read_before_equals(task, plain),
      BELOW_0,
      _PAIRED,
    ),
    Statement(
      f"swap/less/{variant}",
      f"{variant}: with the donor's stream at the {place}, fewer digits become"
      " the donor's than in ordinary training; the estimate is the difference"
      " of shares, below 0",
      _OURS,
      "share of digits",
      moved_at(task, cut, place) - moved_at(task, plain, place),
      BELOW_0,
      _PAIRED,
    ),
    Statement(
      f"beam/{variant}",
      f"beam search gains more for {variant} than for ordinary training; the"
      " estimate is the difference of beam gains, above 0",
      _OURS,
      "nats/product",
      cut.gain - plain.gain,
      ABOVE_0,
      _PAIRED,
    ),
  ]
