"""Placebo comparisons: do 95% intervals cover the truth in 95% of cases?

One variant is compared with itself on another data order, many times. The true
difference is zero, so the 95% interval should contain zero in 95% of the
repetitions, and the claim of a difference should be "inconclusive" as often.
All models of all repetitions train in one compiled program.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from jaxlook import stats
from jaxlook.errors import SettingError
from jaxlook.models import Decoder
from jaxlook.tasks.task import Task
from jaxlook.training import TrainConfig, evaluate, held_out_key
from jaxlook.training.step import init_states, seed_keys, train_chunk


def final_losses(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  repetitions: int,
  seeds: int,
) -> np.ndarray:
  """Trains pairs of models with equal initial weights on two data orders.

  Args:
    decoder: the model under a variant.
    task: a generated task.
    config: how to train.
    repetitions: number of comparisons, R.
    seeds: number of seeds of each comparison, n; no seed is used twice.

  Returns:
    Held-out loss for both orders, [2, R, n]; NaN where a model diverged.

  Raises:
    SettingError: a count is too small for an interval.
  """
  if repetitions < 1 or seeds < 2:
    raise SettingError(
      "repetitions",
      f"must be at least 1 and seeds at least 2, not {repetitions} and {seeds}",
    )
  count = repetitions * seeds
  keys = seed_keys(range(count))
  init = jnp.concatenate([keys.init, keys.init])
  other = jax.vmap(lambda key: jax.random.fold_in(key, 2**32 - 1))(keys.data)
  run = jax.jit(
    functools.partial(train_chunk, decoder, task, config), donate_argnums=0
  )
  states, _ = run(
    init_states(decoder.config, config, init),
    jnp.concatenate([keys.data, other]),
    jnp.arange(config.steps),
    None,
  )
  losses_ExT = evaluate(
    decoder, task, config, states.params, key=held_out_key()
  )
  losses_E = losses_ExT.mean(axis=1, dtype=np.float64)
  losses_E[np.asarray(states.diverged_at) >= 0] = np.nan
  return losses_E.reshape(2, repetitions, seeds)


@dataclasses.dataclass(frozen=True)
class Coverage:
  """How often one kind of interval contained zero.

  Attributes:
    covered: repetitions whose interval contained zero.
    above: repetitions whose interval was above zero.
    below: repetitions whose interval was below zero.
  """

  covered: int
  above: int
  below: int

  @property
  def interval(self) -> stats.Interval:
    """The coverage with its exact 95% interval (Clopper and Pearson)."""
    total = self.covered + self.above + self.below
    test = scipy.stats.binomtest(self.covered, total)
    ends = test.proportion_ci(0.95, method="exact")
    return stats.Interval(
      self.covered / total,
      (float(ends.low), float(ends.high)),
      total,
      "paired by initial weights",
    )


def coverage(losses: np.ndarray) -> Mapping[str, Coverage]:
  """Counts the intervals of paired differences that contain zero.

  Args:
    losses: [2, R, n] from `final_losses`.

  Returns:
    The coverage by kind of interval, "t" or "bootstrap", over the repetitions
    with at least two finite pairs.
  """
  counts = {"t": [0, 0, 0], "bootstrap": [0, 0, 0]}
  for first, second in zip(*losses, strict=True):
    if np.isfinite(first - second).sum() < 2:
      continue
    found = stats.compare(dict(enumerate(first)), dict(enumerate(second)))
    for kind, ends in (("t", found.ci95), ("bootstrap", found.bootstrap95)):
      place = 1 if ends[0] > 0.0 else 2 if ends[1] < 0.0 else 0
      counts[kind][place] += 1
  return {kind: Coverage(*numbers) for kind, numbers in counts.items()}
