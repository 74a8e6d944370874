"""The ratios that training steps should reach, and whether they do.

Each target is a claim whose verdict follows from an interval over the rounds of
one run.
"""

from collections.abc import Mapping

from experiments.benchmarks import timing, train_step_pieces
from experiments.benchmarks.timing import Samples
from experiments.benchmarks.timing_tables import TARGET_SOURCE
from experiments.benchmarks.train_step_pieces import step_flops
from experiments.benchmarks.train_step_setting import (
  CAUSAL,
  MYOPIC,
  StepSetting,
  sequences_per_second,
)
from jaxlook import stats

PUBLISHED = (
  "the published PyTorch code (Wu et al. 2024), measured once on two CPU cores"
)


def step_claims(
  setting: StepSetting, times: Mapping[str, Samples], platform: str
) -> list[stats.Claim]:
  """One claim for each target that applies to the setting's steps."""
  if not setting.aimed:
    return []
  if platform == "cpu" and setting.published:
    return [_cheaper(setting, times), *_faster(setting, times)]
  if platform == "gpu" and setting.model.vocab_size:
    return _busy(setting, times)
  return []


def _cheaper(setting: StepSetting, times: Mapping[str, Samples]) -> stats.Claim:
  """Whether a myopic step costs less than a causal one."""
  return stats.claim(
    f"myopic / causal <= 0.95, {setting.name}",
    "a myopic step takes at most 0.95 of the time of a causal one; n counts"
    " rounds",
    TARGET_SOURCE,
    "ratio",
    timing.ratio(times[MYOPIC].seconds, times[CAUSAL].seconds),
    high=0.95,
  )


def _faster(
  setting: StepSetting, times: Mapping[str, Samples]
) -> list[stats.Claim]:
  """Whether sequences a second reach 1.5 times the published figures."""
  vanilla, myopic = setting.published or (0.0, 0.0)
  found = []
  for variant in setting.variants:
    figure = vanilla if variant == CAUSAL else myopic
    found.append(
      stats.claim(
        f"{variant} >= 1.5 x published, {setting.name}",
        f"{variant} trains at least 1.5 times as many sequences a second as"
        f" {PUBLISHED}, {figure:g}; n counts rounds",
        TARGET_SOURCE,
        "ratio",
        _scaled(sequences_per_second(setting, times[variant]), 1.0 / figure),
        low=1.5,
      )
    )
  return found


def _busy(
  setting: StepSetting, times: Mapping[str, Samples]
) -> list[stats.Claim]:
  """Whether myopic reaches half the machine's rate of matrix products."""
  flops = step_flops(setting, MYOPIC)
  return [
    stats.claim(
      f"myopic >= 0.5 of the rate of {name}, {setting.name}",
      "a myopic step reaches at least half the rate of a square matrix product;"
      " n counts rounds",
      TARGET_SOURCE,
      "ratio",
      _scaled(
        timing.ratio(times[name].seconds, times[MYOPIC].seconds),
        flops / train_step_pieces.SQUARE_FLOPS,
      ),
      low=0.5,
    )
    for name in train_step_pieces.SQUARES.values()
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
      TARGET_SOURCE,
      "ratio",
      timing.ratio(times[MYOPIC, 64].seconds, times[MYOPIC, 1].seconds),
      high=2.0,
    )
  ]


def _scaled(found: stats.Interval, factor: float) -> stats.Interval:
  """An interval times a positive factor."""
  low, high = found.ci95
  return stats.Interval(
    found.estimate * factor,
    (low * factor, high * factor),
    found.n,
    found.pairing,
  )
