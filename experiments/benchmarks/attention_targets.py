"""The ratios and peaks that the attention should reach, and whether it does.

Each target is a claim. Its verdict follows from an interval over the rounds of
one run: it is supported where the whole interval lies within the bound.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.benchmarks import attention_contenders, timing
from experiments.benchmarks.attention_contenders import AttentionShape
from experiments.benchmarks.peak_memory import MIB
from experiments.benchmarks.timing import Samples
from experiments.benchmarks.timing_tables import TARGET_SOURCE
from jaxlook import stats

Times = Mapping[AttentionShape, Mapping[str, Samples]]
Peaks = Mapping[AttentionShape, Mapping[str, np.ndarray]]


class TimeTarget(NamedTuple):
  """A bound on a ratio of times.

  Attributes:
    over: the contender in the numerator.
    under: the contender in the denominator.
    most: the bound on the ratio.
    shortest: the least length N that it applies to.
    longest: the greatest length N that it applies to.
    gpu: whether it applies to a GPU in half precision, or to a CPU in float32.
  """

  over: str
  under: str
  most: float
  shortest: int
  longest: float = math.inf
  gpu: bool = False


_MYOPIC, _CAUSAL = attention_contenders.MYOPIC, attention_contenders.CAUSAL
TIME_TARGETS = (
  TimeTarget(_MYOPIC, _CAUSAL, most=0.60, shortest=1024),
  TimeTarget(_MYOPIC, _CAUSAL, most=0.85, shortest=32, longest=1023),
  TimeTarget(_MYOPIC, attention_contenders.JAX_NN, most=0.15, shortest=4096),
  TimeTarget(
    _MYOPIC, attention_contenders.JAX_NN, most=0.25, shortest=1024, longest=4095
  ),
  TimeTarget(
    _MYOPIC, attention_contenders.JAX_NN, most=0.45, shortest=64, longest=1023
  ),
  TimeTarget(_CAUSAL, attention_contenders.JAX_NN, most=0.60, shortest=64),
  TimeTarget(_MYOPIC, attention_contenders.TORCH, most=1.0, shortest=32),
  TimeTarget(_MYOPIC, attention_contenders.TORCH, most=0.8, shortest=32),
  TimeTarget(attention_contenders.HORIZON, _MYOPIC, most=1.15, shortest=1024),
  TimeTarget(
    _MYOPIC, attention_contenders.CUDNN, most=0.75, shortest=2048, gpu=True
  ),
)

# The bound on the memory above the inputs, forward and backward, is at this
# shape.
_LONG = AttentionShape(batch=1, length=16384, heads=2, head_width=64)
_MOST_MIB = 512.0
# A ratio in this range counts as twice.
_TWICE = (1.8, 2.2)


def time_claims(times: Times, dtype: str, platform: str) -> list[stats.Claim]:
  """One claim for each shape and target that applies to device and dtype."""
  found = []
  for target in TIME_TARGETS:
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
          TARGET_SOURCE,
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
    Claims about our variants that at least two processes measured.
  """
  if (dtype, platform) != ("float32", "cpu"):
    return []
  found = []
  half = dataclasses.replace(_LONG, length=_LONG.length // 2)
  for name, values in peaks.get(_LONG, {}).items():
    if name not in attention_contenders.OURS or len(values) < 2:
      continue
    found.append(
      stats.claim(
        f"memory of {name} < {_MOST_MIB:g} MiB at {_LONG}",
        f"{name} takes less than {_MOST_MIB:g} MiB above the inputs; n counts"
        " processes",
        TARGET_SOURCE,
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
          TARGET_SOURCE,
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
