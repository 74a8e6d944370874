"""Logits that are computed a part at a time, where they are turned to losses.

The logits of a large vocabulary are the largest array of a training step: at
8192 tokens and GPT-2's 50 257 words 1.6 GB, of which the backward pass needs
more than one. Nothing but their loss is asked for, so some tokens' logits are
computed, turned into losses and dropped, and computed again in the backward
pass: one more matrix product by the head for memory that no longer grows with
the number of tokens.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class DeferredLogits(NamedTuple):
  """The last hidden states of a decoder, and how logits are read from them.

  Attributes:
    hidden: what the head reads, [B, T, D].
    head: gives logits [B, T, V] for such states [B, T, D], position by
      position.
    tokens: how many tokens' logits may exist at a time, at least 1.
  """

  hidden: jax.Array
  head: Callable[[jax.Array], jax.Array]
  tokens: int


def losses_in_parts(
  unread: DeferredLogits,
  targets: jax.Array,
  loss: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
  """Reads logits part by part and keeps their losses alone.

  Args:
    unread: the hidden states and the head.
    targets: of every position, integer [B, T].
    loss: of logits [B, T, V] and targets [B, T], at every position [B, T], each
      from its own logits and target alone.

  Returns:
    The loss at every position, [B, T], up to rounding that of all logits at
    once; so are its gradients to the states and to what the head holds.
  """
  count = targets.size
  size = min(unread.tokens, count)
  # The last part is filled up; what fills it has no loss that anyone reads.
  short = -count % size

  def parts(x: jax.Array, *axes: int) -> jax.Array:
    flat = x.reshape(count, *axes)
    filled = jnp.pad(flat, ((0, short), *((0, 0) for _ in axes)))
    return filled.reshape(-1, 1, size, *axes)

  # Loops keep their steps apart, so nothing else need prevent what is computed
  # twice from being shared.
  @functools.partial(jax.remat, prevent_cse=False)
  def one(hidden_1xTxD: jax.Array, targets_1xT: jax.Array) -> jax.Array:
    return loss(unread.head(hidden_1xTxD), targets_1xT)

  losses = jax.lax.map(
    lambda part: one(*part),
    (parts(unread.hidden, unread.hidden.shape[-1]), parts(targets)),
  )
  return losses.reshape(-1)[:count].reshape(targets.shape)
