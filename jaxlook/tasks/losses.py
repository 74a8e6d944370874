"""Cross-entropy, of whole logits or of a few tokens' logits at a time.

With a large vocabulary, the logits are the largest array of a training step:
1.6 GB for 8192 tokens and GPT-2's vocabulary of 50 257, and the backward pass
needs several such arrays. Only their losses are needed. So `DeferredLogits`
computes the logits of some tokens, turns them into losses, drops them, and
computes them again in the backward pass. This costs one more matrix product
with the head; memory no longer grows with the number of tokens.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxlook.errors import check_ids


class DeferredLogits(NamedTuple):
  """A decoder's last hidden states, and the head that maps them to logits.

  Attributes:
    hidden: the head's input, [B, T, D].
    head: maps states [B, T, D] to logits [B, T, V], position by position.
    tokens: number of tokens whose logits exist at a time, at least 1.
  """

  hidden: jax.Array
  head: Callable[[jax.Array], jax.Array]
  tokens: int


def losses_in_parts(
  deferred: DeferredLogits,
  targets: jax.Array,
  loss: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
  """Computes losses from a few tokens' logits at a time.

  Args:
    deferred: the hidden states and the head.
    targets: integer [B, T].
    loss: maps logits [B, T, V] and targets [B, T] to losses [B, T]; each loss
      may depend only on its own position.

  Returns:
    The losses, [B, T]. Up to rounding, they and their gradients equal those
    from all logits at once.
  """
  count = targets.size
  size = min(deferred.tokens, count)
  # The last part is padded; the losses of the padding are dropped.
  short = -count % size

  def parts(x: jax.Array, *axes: int) -> jax.Array:
    flat = x.reshape(count, *axes)
    filled = jnp.pad(flat, ((0, short), *((0, 0) for _ in axes)))
    return filled.reshape(-1, 1, size, *axes)

  # A loop keeps the first and the second computation separate, so `prevent_cse`
  # is not needed.
  @functools.partial(jax.remat, prevent_cse=False)
  def one(hidden_1xTxD: jax.Array, targets_1xT: jax.Array) -> jax.Array:
    return loss(deferred.head(hidden_1xTxD), targets_1xT)

  losses = jax.lax.map(
    lambda part: one(*part),
    (parts(deferred.hidden, deferred.hidden.shape[-1]), parts(targets)),
  )
  return losses.reshape(-1)[:count].reshape(targets.shape)


def cross_entropy(
  logits: jax.Array | DeferredLogits, targets: jax.Array
) -> jax.Array:
  """Computes the loss at every position.

  Args:
    logits: unnormalised log-probabilities, float [B, T, V], or their deferred
      form.
    targets: token ids below V, integer [B, T].

  Returns:
    Nats per token, [B, T]; float32, or float64 if the logits are.

  Raises:
    AssertionError: the shapes or types do not match.
    ValueError: a target that is not traced is below 0, or V or above.
  """
  if isinstance(logits, DeferredLogits):
    return losses_in_parts(logits, targets, cross_entropy)
  chex.assert_rank(logits, 3)
  chex.assert_shape(targets, logits.shape[:2])
  chex.assert_type([logits, targets], [float, int])
  check_ids(logits.shape[-1], targets)
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  # With a maximum of 0 this is as exact as indexing the log-softmax, which
  # would need a second array of the logits' size.
  logits -= jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
  return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
