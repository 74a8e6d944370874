"""What training steps should reach, and whether they do; see `targets`."""

from collections.abc import Mapping

from experiments.benchmarks import pieces, targets, timing
from experiments.benchmarks.flops import step_flops
from experiments.benchmarks.stepping import (
  CAUSAL,
  MYOPIC,
  Setting,
  rate,
)
from experiments.benchmarks.timing import Samples
from jaxlook import stats

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
    targets.SOURCE,
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
        targets.SOURCE,
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
      targets.SOURCE,
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
      targets.SOURCE,
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
