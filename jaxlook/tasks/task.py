"""What every task offers to training and evaluation."""

from typing import Any, NamedTuple, Protocol

import jax


class Batch(NamedTuple):
  """Sequences and what is asked of them.

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
      fed: what the host read for this step, or a part of its rows, [B, ...],
        which then decides the batch alone; None for generated tasks.

    Returns:
      The batch, of `size` sequences or of as many as were fed.
    """
    ...

  def loss(self, outputs: Any, batch: Batch) -> jax.Array:
    """The loss at every position, [B, T], in the task's unit.

    Args:
      outputs: the decoder's, [B, T, V] or [B, T, F]. Tasks of tokens also take
        `jaxlook.tasks.losses.DeferredLogits`, and hand it to `cross_entropy`.
      batch: what the outputs are for.
    """
    ...
