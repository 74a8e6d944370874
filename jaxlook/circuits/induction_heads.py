"""Measures whether and when induction heads form, for all seeds."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook import models
from jaxlook.circuits.behaviour import (
  HeadScores,
  head_scores,
  in_context_score,
)
from jaxlook.errors import check_ids
from jaxlook.interventions.forward import forward_only
from jaxlook.models import Decoder
from jaxlook.stats.claims import by_seed
from jaxlook.tasks.induction import Induction
from jaxlook.tasks.task import Batch


class InductionResults(NamedTuple):
  """Measures of the models of E seeds on a batch of repeated sequences.

  Attributes:
    heads: scores of each head, [E, L, N].
    loss: mean loss over all positions, nats per token, [E].
    copied_loss: mean loss over the copied tokens, nats per token, [E]. A target
      is a copied token if the first segment shows it.
    accuracy: share of the copied tokens that have the largest logit, [E].
    in_context: mean loss of the second half of the positions minus that of the
      first half, nats per token, [E].
    losses: mean loss by position, nats per token, [E, T].
    accuracies: `accuracy` by position, [E, T]; NaN at positions without copied
      tokens.
  """

  heads: HeadScores
  loss: Any
  copied_loss: Any
  accuracy: Any
  in_context: Any
  losses: Any
  accuracies: Any


def measure_induction(
  decoder: Decoder,
  task: Induction,
  params: Any,
  batch: Batch,
  alive: Sequence[bool] | None = None,
) -> InductionResults:
  """Measures the models of one variant at one step.

  Args:
    decoder: the model under the variant.
    task: the task that the model was trained on.
    params: parameters with a leading seed axis E.
    batch: held-out sequences.
    alive: for each seed, False if it diverged; by default no seed diverged.

  Returns:
    Arrays on the host; NaN for seeds that diverged.

  Raises:
    ValueError: see `Decoder`.
  """
  check_ids(decoder.config.vocab_size, batch.inputs)
  results = _measure(forward_only(decoder), task, params, batch)
  return by_seed(results, alive)


def measure_along_training(
  decoder: Decoder,
  task: Induction,
  params_after: Callable[[int], Any],
  steps: Sequence[int],
  batch: Batch,
  alive: Sequence[bool] | None = None,
) -> dict[int, InductionResults]:
  """Measures the models of one variant at several steps.

  Args:
    decoder: the model under the variant.
    task: the task that the model was trained on.
    params_after: returns the parameters after a step, with a leading seed axis
      E.
    steps: the steps at which to measure, ascending.
    batch: held-out sequences.
    alive: for each seed, False if it diverged; by default no seed diverged.

  Returns:
    The result of `measure_induction` by step.

  Raises:
    ValueError: see `Decoder` and `params_after`.
  """
  return {
    step: measure_induction(decoder, task, params_after(step), batch, alive)
    for step in steps
  }


# Variants with the same forward pass share one compiled program.
@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None, 0, None))
def _measure(
  decoder: Decoder, task: Induction, params: Any, batch: Batch
) -> InductionResults:
  logits = models.apply(decoder, params, batch.inputs)
  losses = task.loss(logits, batch)
  copied = task.copied(batch)
  right = jnp.argmax(logits, axis=-1) == batch.targets
  half = task.length // 2
  return InductionResults(
    heads=head_scores(decoder, params, batch.inputs),
    loss=jnp.mean(losses),
    copied_loss=jnp.sum(losses * copied) / jnp.sum(copied),
    accuracy=jnp.sum(right & copied) / jnp.sum(copied),
    in_context=in_context_score(
      jnp.mean(losses, axis=0), slice(0, half), slice(half, None)
    ),
    losses=jnp.mean(losses, axis=0),
    accuracies=jnp.sum(right & copied, axis=0) / jnp.sum(copied, axis=0),
  )


def best_head(scores: Any) -> np.ndarray:
  """The largest score of any head, [E], of scores [E, L, N]."""
  return np.max(scores, axis=(-2, -1))


def summary(found: InductionResults) -> dict[str, np.ndarray]:
  """One number per seed for each measure: the best head's score, the losses.

  Args:
    found: measured models.

  Returns:
    By name, [E]. `induction` is the largest product of prefix and copying score
    of one head, because an induction head needs both.
  """
  heads = found.heads
  return {
    "previous": best_head(heads.previous),
    "prefix": best_head(heads.prefix),
    "induction": best_head(heads.prefix * heads.copying),
    "copied_loss": found.copied_loss,
    "accuracy": found.accuracy,
    "in_context": found.in_context,
    "loss": found.loss,
  }


def step_reached(
  steps: np.ndarray, values: np.ndarray, share: float
) -> np.ndarray:
  """The step at which a curve has made a given share of its whole change.

  Args:
    steps: ascending step counts [K], the first 0.
    values: the curves, one for each seed, [K, E].
    share: in (0, 1).

  Returns:
    [E], interpolated between recorded steps; NaN for seeds that diverged.
  """
  change = (values - values[0]) / (values[-1] - values[0])
  reached = np.full(values.shape[1], np.nan)
  for seed in np.flatnonzero(np.isfinite(change).all(axis=0)):
    after = int(np.argmax(change[:, seed] >= share))
    pair = slice(after - 1, after + 1)
    reached[seed] = np.interp(share, change[pair, seed], steps[pair])
  return reached


class PhaseChange(NamedTuple):
  """When a curve changes; each [E].

  Attributes:
    start: the step at which 10% of the whole change is made.
    end: the step at which 90% of the whole change is made.
    abruptness: (end - start) / start. Below 1 the change takes less time than
      the wait before it. The length of training does not matter. An
      exponential approach that begins at the first step has 21.
  """

  start: np.ndarray
  end: np.ndarray
  abruptness: np.ndarray


def phase_change(steps: np.ndarray, values: np.ndarray) -> PhaseChange:
  """When each curve changes; for the arguments see `step_reached`."""
  start, end = (step_reached(steps, values, share) for share in (0.1, 0.9))
  return PhaseChange(start, end, (end - start) / start)


def summary_by_step(
  found: Mapping[int, InductionResults],
) -> dict[str, np.ndarray]:
  """`summary` of every step, [K, E] by name."""
  summaries = [summary(results) for results in found.values()]
  return {
    name: np.stack([values[name] for values in summaries])
    for name in summaries[0]
  }
