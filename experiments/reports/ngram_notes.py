"""Notes that say which counts of n-grams ordinary training beats.

A model that does not beat bigram counts need not use its context.
"""

from collections.abc import Mapping

import numpy as np

from experiments.common.text_setup import BIGRAM, ORDERS, UNIT, counts_name
from jaxlook import stats
from jaxlook.numerals import counted
from jaxlook.reporting import interval, number
from jaxlook.stats.myopia_gap import CAUSAL


def notes(
  losses: Mapping[str, Mapping[str, Mapping[int, float]]],
  counts: Mapping[str, float],
) -> tuple[str, ...]:
  """A note for each setting.

  Args:
    losses: held-out loss by setting, variant and seed; the name of a setting is
      empty if there is only one.
    counts: the held-out loss of each baseline by counting.

  Returns:
    Paragraphs; none for a setting in which no seed of causal is left.
  """
  return tuple(
    _note(np.array(list(by_variant[CAUSAL].values())), counts, setting)
    for setting, by_variant in losses.items()
    if by_variant.get(CAUSAL)
  )


def _note(causal: np.ndarray, counts: Mapping[str, float], setting: str) -> str:
  """The note of one setting; causal's losses are [E]."""
  where = f" ({setting})" if setting else ""
  loss = f"{number(float(causal.mean()))} {UNIT}"
  bigram = counts[BIGRAM]
  if not _beats(causal, bigram):
    return (
      f"Under-trained{where}: causal attention ({loss}) does not beat {BIGRAM}"
      f" ({number(bigram)} {UNIT}); do not read gaps as those of a model that"
      f" uses its context. {_difference(causal, bigram)}"
    )
  names = [counts_name(order) for order in ORDERS]
  named = {name: counts[name] for name in names if name in counts}
  beaten = {n: each for n, each in named.items() if _beats(causal, each)}
  left = {n: each for n, each in named.items() if n not in beaten}
  said = f"Causal attention{where}, {loss}, beats {_listed(beaten, 'and')}"
  if left:
    said += f". It does not beat {_listed(left, 'or')}"
  if len(named) < len(names):
    said += ". Longer n-grams do not fit into this machine's memory"
  return f"{said}. {_basis(len(causal))}"


def _beats(causal: np.ndarray, count: float) -> bool:
  """Whether all of the difference's interval is below 0; or its only value."""
  if len(causal) < 2:
    return bool(causal[0] < count)
  return stats.mean_interval(causal - count).ci95[1] < 0


def _difference(causal: np.ndarray, count: float) -> str:
  """How far the two losses are apart."""
  estimate = number(float((causal - count).mean()))
  if len(causal) < 2:
    return f"The difference is {estimate} (1 seed, so no interval)."
  ends = interval(stats.mean_interval(causal - count).ci95)
  seeds = counted(len(causal), "seed")
  return f"The difference is {estimate} {ends} (95% t interval, {seeds})."


def _basis(seeds: int) -> str:
  """What "beats" means."""
  if seeds < 2:
    return "There is 1 seed, so this compares losses without an interval."
  return (
    "It beats counts if the 95% t interval of the difference, over"
    f" {counted(seeds, 'seed')}, is below 0."
  )


def _listed(counts: Mapping[str, float], word: str) -> str:
  """Names with their losses, joined as in a sentence."""
  *first, last = (f"{name} ({number(loss)})" for name, loss in counts.items())
  return f"{', '.join(first)} {word} {last}" if first else last
