"""The ratios that the attention should reach, and whether it does.

Each target is a claim whose verdict follows from an interval over the rounds of
one run; it is supported where all of the interval lies within the bound.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.benchmarks import contenders, output, pieces, timing
from experiments.benchmarks.contenders import Shape
from experiments.benchmarks.pieces import step_flops
from experiments.benchmarks.stepping import (
  CAUSAL,
  MYOPIC,
  Setting,
  rate,
)
from experiments.benchmarks.timing import Samples
from jaxlook import reporting, stats

MIB = 2**20
SOURCE = "a target of this project"

Times = Mapping[Shape, Mapping[str, Samples]]
Peaks = Mapping[Shape, Mapping[str, np.ndarray]]


class Target(NamedTuple):
  """A bound on a ratio of times.

  Attributes:
    over: the contender in the numerator.
    under: the contender in the denominator.
    most: the ratio may be this much.
    shortest: the lengths N that it speaks of begin here.
    longest: and end here.
    gpu: whether it speaks of a GPU, in half precision, or of a CPU in float32.
  """

  over: str
  under: str
  most: float
  shortest: int
  longest: float = math.inf
  gpu: bool = False


_MYOPIC, _CAUSAL = contenders.MYOPIC, contenders.CAUSAL
TARGETS = (
  Target(_MYOPIC, _CAUSAL, 0.60, 1024),
  Target(_MYOPIC, _CAUSAL, 0.85, 32, 1023),
  Target(_MYOPIC, contenders.JAX_NN, 0.15, 4096),
  Target(_MYOPIC, contenders.JAX_NN, 0.25, 1024, 4095),
  Target(_MYOPIC, contenders.JAX_NN, 0.45, 64, 1023),
  Target(_CAUSAL, contenders.JAX_NN, 0.60, 64),
  Target(_MYOPIC, contenders.TORCH, 1.0, 32),
  Target(_MYOPIC, contenders.TORCH, 0.8, 32),
  Target(contenders.HORIZON, _MYOPIC, 1.15, 1024),
  Target(_MYOPIC, contenders.CUDNN, 0.75, 2048, gpu=True),
)

# Of the memory above the inputs, forward and backward.
_LONG = Shape(1, 16384, 2, 64)
_MOST_MIB = 512.0
# What counts as twice.
_TWICE = (1.8, 2.2)


def time_claims(times: Times, dtype: str, platform: str) -> list[stats.Claim]:
  """What the times say about the targets for this device and dtype."""
  found = []
  for target in TARGETS:
    here = platform == "gpu" if target.gpu else platform == "cpu"
    if not here or target.gpu == (dtype == "float32"):
      continue
    for shape, samples in times.items():
      if not (
        target.shortest <= shape.length <= target.longest
        and {target.over, target.under} <= samples.keys()
      ):
        continue
      found.append(
        stats.claim(
          f"{target.over} / {target.under} <= {target.most:g} at {shape}",
          f"{target.over} takes at most {target.most:g} of the time of"
          f" {target.under}; n counts rounds",
          SOURCE,
          "ratio",
          timing.ratio(
            samples[target.over].seconds, samples[target.under].seconds
          ),
          high=target.most,
        )
      )
  return found


def memory_claims(peaks: Peaks, dtype: str, platform: str) -> list[stats.Claim]:
  """Whether memory is bounded at N = 16384, and linear up to there.

  Args:
    peaks: by shape and contender, bytes above the inputs, one a process.
    dtype: the arrays' dtype.
    platform: the backend.

  Returns:
    Claims about the variants of ours that two processes or more measured.
  """
  if (dtype, platform) != ("float32", "cpu"):
    return []
  found = []
  half = Shape(_LONG.batch, _LONG.length // 2, _LONG.heads, _LONG.head_width)
  for name, values in peaks.get(_LONG, {}).items():
    if name not in contenders.OURS or len(values) < 2:
      continue
    found.append(
      stats.claim(
        f"memory of {name} < {_MOST_MIB:g} MiB at {_LONG}",
        f"{name} takes less than {_MOST_MIB:g} MiB above the inputs; n counts"
        " processes",
        SOURCE,
        "MiB",
        stats.mean_interval(values / MIB),
        high=math.nextafter(_MOST_MIB, 0.0),
      )
    )
    halves = peaks.get(half, {}).get(name)
    if halves is not None and len(halves) == len(values):
      low, high = _TWICE
      found.append(
        stats.claim(
          f"memory of {name}, {_LONG} / {half}",
          f"twice the length takes {low:g} to {high:g} times the memory; n"
          " counts processes",
          SOURCE,
          "ratio",
          _mean_ratio(values, halves),
          low=low,
          high=high,
        )
      )
  return found


def _mean_ratio(over: np.ndarray, under: np.ndarray) -> stats.Interval:
  """The ratio of geometric means, with a t interval on the log scale."""
  logs = stats.mean_interval(np.log(over) - np.log(under))
  low, high = np.exp(logs.ci95)
  return stats.Interval(
    math.exp(logs.estimate), (float(low), float(high)), logs.n, logs.pairing
  )


def table(claims: Sequence[stats.Claim]) -> reporting.Rows:
  """One row a target, reached or missed."""
  words = {
    "supported": "reached",
    "contradicted": "missed",
    "inconclusive": "open",
  }
  rows = [["target", "measured", "95% interval", "n", "verdict", ""]]
  return rows + [
    [
      claim.id,
      f"{reporting.number(claim.estimate)} {claim.unit}",
      output.interval_text(claim.ci95),
      str(claim.n),
      claim.verdict,
      words[claim.verdict],
    ]
    for claim in claims
  ]


def tables(claims: Sequence[stats.Claim]) -> dict[str, reporting.Rows]:
  """The table of targets by its title; none where no target applies."""
  return {"Targets": table(claims)} if claims else {}


PUBLISHED = (
  "the published PyTorch code (Wu et al. 2024), measured once on two CPU cores"
)


def step_claims(
  setting: Setting, times: Mapping[str, Samples], platform: str
) -> list[stats.Claim]:
  """What a setting's steps reach, where the targets speak of them."""
  if not setting.aimed:
    return []
  if platform == "cpu" and setting.published:
    return [_cheaper(setting, times), *_faster(setting, times)]
  if platform == "gpu" and setting.model.vocab_size:
    return _busy(setting, times)
  return []


def _cheaper(setting: Setting, times: Mapping[str, Samples]) -> stats.Claim:
  return stats.claim(
    f"myopic / causal <= 0.95, {setting.name}",
    "a myopic step takes at most 0.95 of the time of a causal one; n counts"
    " rounds",
    SOURCE,
    "ratio",
    timing.ratio(times[MYOPIC].seconds, times[CAUSAL].seconds),
    high=0.95,
  )


def _faster(
  setting: Setting, times: Mapping[str, Samples]
) -> list[stats.Claim]:
  """Sequences a second against the published code's figures."""
  vanilla, myopic = setting.published or (0.0, 0.0)
  found = []
  for variant in setting.variants:
    figure = vanilla if variant == CAUSAL else myopic
    found.append(
      stats.claim(
        f"{variant} >= 1.5 x published, {setting.name}",
        f"{variant} trains at least 1.5 times as many sequences a second as"
        f" {PUBLISHED}, {figure:g}; n counts rounds",
        SOURCE,
        "ratio",
        _scaled(rate(setting, times[variant]), 1.0 / figure),
        low=1.5,
      )
    )
  return found


def _busy(setting: Setting, times: Mapping[str, Samples]) -> list[stats.Claim]:
  """Half the machine's rate of matrix products."""
  flops = step_flops(setting, MYOPIC)
  return [
    stats.claim(
      f"myopic >= 0.5 of the rate of {name}, {setting.name}",
      "a myopic step reaches at least half the rate of a square matrix product;"
      " n counts rounds",
      SOURCE,
      "ratio",
      _scaled(
        timing.ratio(times[name].seconds, times[MYOPIC].seconds),
        flops / pieces.SQUARE_FLOPS,
      ),
      low=0.5,
    )
    for name in pieces.SQUARES.values()
    if name in times
  ]


def seeds_claims(
  times: Mapping[tuple[str, int], Samples], platform: str
) -> list[stats.Claim]:
  """On a GPU 64 seeds of a small model take at most twice the time of one."""
  if platform != "gpu" or not {(MYOPIC, 1), (MYOPIC, 64)} <= times.keys():
    return []
  return [
    stats.claim(
      "64 seeds / 1 seed <= 2",
      "a myopic step of 64 seeds takes at most twice the time of one; n counts"
      " rounds",
      SOURCE,
      "ratio",
      timing.ratio(times[MYOPIC, 64].seconds, times[MYOPIC, 1].seconds),
      high=2.0,
    )
  ]


def _scaled(found: stats.Interval, factor: float) -> stats.Interval:
  low, high = found.ci95
  return stats.Interval(
    found.estimate * factor,
    (low * factor, high * factor),
    found.n,
    found.pairing,
  )
