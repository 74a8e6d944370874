"""Placebo comparisons: do 95% intervals cover the truth in 95% of cases?

One variant is compared with itself on another data order, many times. The true
difference is zero, so the 95% interval should contain zero in 95% of the
repetitions, and the claim of a difference should be "inconclusive" as often.
All models of all repetitions train in one compiled program.

All repetitions are evaluated on the same held-out windows, as variants are in
an experiment, and once more on windows of their own, as for statements about
text in general. Both orders do equally well on any window, up to their seeds,
so their difference has no window effect to find; the loss of one order has one.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from jaxlook import stats
from jaxlook.errors import SettingError
from jaxlook.models import Decoder
from jaxlook.tasks.task import Task
from jaxlook.training import TrainConfig, evaluate, held_out_key
from jaxlook.training.step import (
  init_states,
  position_losses,
  seed_keys,
  train_chunk,
)

# The last child of the key of the held-out batches, which has fewer children.
_OWN = 2**32 - 1


class Losses(NamedTuple):
  """Held-out losses of both data orders; NaN where a model diverged.

  Attributes:
    shared: mean over windows that are the same for all, float64 [2, R, n].
    own: on windows that are new in each repetition and the same for its seeds
      and orders, float64 [2, R, n, W].
  """

  shared: np.ndarray
  own: np.ndarray


def final_losses(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  repetitions: int,
  seeds: int,
) -> Losses:
  """Trains pairs of models with equal initial weights on two data orders.

  Args:
    decoder: the model under a variant.
    task: a generated task.
    config: how to train; W is its number of held-out sequences.
    repetitions: number of comparisons, R.
    seeds: number of seeds of each comparison, n; no seed is used twice.

  Returns:
    Held-out losses.

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
  shared_E = losses_ExT.mean(axis=1, dtype=np.float64)
  shape = (2, repetitions, seeds)
  own = np.array(
    _own_window_losses(decoder, task, config, states.params, shape), np.float64
  )
  diverged_E = np.asarray(states.diverged_at) >= 0
  shared_E[diverged_E] = np.nan
  own[diverged_E.reshape(shape)] = np.nan
  return Losses(shared_E.reshape(shape), own)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 4))
def _own_window_losses(
  decoder: Decoder,
  task: Task,
  config: TrainConfig,
  params: Any,
  shape: tuple[int, int, int],
) -> jax.Array:
  """Returns the mean loss of every window that a repetition draws.

  Args:
    decoder: the model under a variant.
    task: a generated task.
    config: has the size and number of held-out batches.
    params: parameters with a leading axis of orders, repetitions and seeds.
    shape: their numbers, (2, R, n).

  Returns:
    Float32 [2, R, n, W].
  """
  windows = config.eval_batches * config.batch_size
  own_key = jax.random.fold_in(held_out_key(), _OWN)

  def of_repetition(number: jax.Array) -> jax.Array:
    batch = task.batch(jax.random.fold_in(own_key, number), windows, None)
    mine = jax.tree.map(
      lambda x: x.reshape(*shape, *x.shape[1:])[:, number], params
    )

    def of_model(params: Any) -> jax.Array:
      losses_BxT = position_losses(
        decoder, task, params, batch, loss_tokens=config.loss_tokens
      )
      return jnp.mean(losses_BxT, axis=-1)

    return jax.vmap(jax.vmap(of_model))(mine)

  # One repetition at a time: the windows of all need gigabytes.
  losses = jax.lax.map(of_repetition, jnp.arange(shape[1]))
  return jnp.moveaxis(losses, 0, 1)


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
    losses: [2, R, n], `shared` of `final_losses`.

  Returns:
    The coverage by kind of interval, "t" or "bootstrap", over the repetitions
    with at least two finite pairs.
  """
  found: dict[str, list[tuple[float, float]]] = {"t": [], "bootstrap": []}
  for first, second in zip(*losses, strict=True):
    if np.isfinite(first - second).sum() < 2:
      continue
    pair = stats.compare(dict(enumerate(first)), dict(enumerate(second)))
    found["t"].append(pair.ci95)
    found["bootstrap"].append(pair.bootstrap95)
  return {kind: _counted(ends) for kind, ends in found.items()}


def window_coverage(
  values: np.ndarray, truth: float = 0.0
) -> Mapping[str, Coverage]:
  """Counts the intervals for text in general that contain the true mean.

  Args:
    values: [R, n, W] by repetition, seed and window: a difference or a loss.
    truth: their true mean.

  Returns:
    The coverage of "t", over the means of seeds, and of "two-way", over seeds
    and windows, over the repetitions with at least two finite seeds.
  """
  found: dict[str, list[tuple[float, float]]] = {"t": [], "two-way": []}
  for values_ExW in values - truth:
    alive = values_ExW[np.isfinite(values_ExW).all(axis=1)]
    if len(alive) < 2:
      continue
    found["t"].append(stats.mean_interval(alive.mean(axis=1)).ci95)
    found["two-way"].append(stats.two_way_interval(alive).ci95)
  return {kind: _counted(ends) for kind, ends in found.items()}


def _counted(intervals: list[tuple[float, float]]) -> Coverage:
  """Counts the intervals that contain zero, are above or below it."""
  above = sum(low > 0.0 for low, _ in intervals)
  below = sum(high < 0.0 for _, high in intervals)
  return Coverage(len(intervals) - above - below, above, below)
