"""The interface of tasks to training and evaluation."""

from typing import Any, NamedTuple, Protocol

import jax


class Batch(NamedTuple):
  """Sequences with their targets.

  Attributes:
    inputs: tokens, integer [B, T], or features, float [B, T, F].
    targets: tokens, integer [B, T], or values, float [B, T, F].
  """

  inputs: jax.Array
  targets: jax.Array


class Task(Protocol):
  """A source of batches with a loss at every position."""

  def batch(self, key: jax.Array, size: int, fed: jax.Array | None) -> Batch:
    """Makes one batch inside the training step.

    Args:
      key: a PRNG key, consumed; the same for all variants of a seed and step.
      size: number of sequences.
      fed: data that the host read for this step, or some of its rows,
        [B, ...]; it determines the batch. None for generated tasks.

    Returns:
      The batch, of `size` sequences or of as many as `fed` has.
    """
    ...

  def loss(self, outputs: Any, batch: Batch) -> jax.Array:
    """The loss at every position, [B, T], in the task's unit.

    Args:
      outputs: the decoder's outputs, [B, T, V] or [B, T, F]. Tasks of tokens
        also accept `jaxlook.tasks.losses.DeferredLogits`; they pass it to
        `cross_entropy`.
      batch: the batch that the decoder has read.
    """
    ...
