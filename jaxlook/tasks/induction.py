"""Repeated random sequences: a token stands where it stood after its like.

A segment of random tokens, a gap of random tokens, and the segment again:

  s_1 .. s_R  g_1 .. g_G  s_1 .. s_R  f f f ...

with G drawn anew for each sequence and fillers f to the end. From the second
token of the repeat on, everything is known to who finds the segment again;
nothing else can be predicted. Work on s_r and its predecessor at the first
place is of no use there: it pays off R + G positions later.

Source: the random repeated sequences of Olsson et al. (2022), "In-context
Learning and Induction Heads", arXiv 2209.11895; the gap is ours.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxlook.errors import SettingError
from jaxlook.tasks.losses import DeferredLogits
from jaxlook.tasks.task import Batch
from jaxlook.tasks.text import cross_entropy


@dataclasses.dataclass(frozen=True)
class Induction:
  """The task at one difficulty.

  Attributes:
    vocab_size: number of tokens V.
    segment: length R of what is repeated; its tokens are distinct.
    max_gap: the gap's largest length; it is drawn evenly from 0 to this.
    length: positions a sequence, inputs and targets each.

  Raises:
    SettingError: a field is out of range; the message names it.
  """

  vocab_size: int = 32
  segment: int = 16
  max_gap: int = 8
  length: int = 40

  def __post_init__(self):
    """Refuses what does not fit into a sequence."""
    if not 2 <= self.segment <= self.vocab_size:
      raise SettingError(
        "segment",
        f"must lie in 2..{self.vocab_size}, the number of distinct"
        f" tokens, not {self.segment}",
      )
    if self.max_gap < 0:
      raise SettingError("max_gap", f"must be at least 0, not {self.max_gap}")
    if self.length < 2 * self.segment + self.max_gap:
      raise SettingError(
        "length",
        f"must be at least {2 * self.segment + self.max_gap}, two"
        f" segments and the widest gap, not {self.length}",
      )

  @property
  def distances(self) -> tuple[int, int]:
    """How far back the copied token's place lies, nearest and farthest.

    Counted from the query, which holds the token before the copied one, to the
    position of that token in the first segment: R + G - 1.
    """
    return self.segment - 1, self.segment + self.max_gap - 1

  def batch(
    self, key: jax.Array, size: int, fed: jax.Array | None = None
  ) -> Batch:
    """Draws sequences; nothing is fed.

    Args:
      key: a PRNG key, consumed.
      size: number of sequences B.
      fed: not used.

    Returns:
      Tokens and next tokens, int32 [B, T].
    """
    del fed
    tokens = jax.vmap(self._sequence)(jax.random.split(key, size))
    return Batch(inputs=tokens[:, :-1], targets=tokens[:, 1:])

  def _sequence(self, key: jax.Array) -> jax.Array:
    key_segment, key_gap, key_filler = jax.random.split(key, 3)
    segment = jax.random.permutation(key_segment, self.vocab_size)
    gap = jax.random.randint(key_gap, (), 0, self.max_gap + 1)
    filler = jax.random.randint(
      key_filler, (self.length + 1,), 0, self.vocab_size
    )
    segment = segment[: self.segment].astype(filler.dtype)
    first = jax.lax.dynamic_update_slice(filler, segment, (0,))
    return jax.lax.dynamic_update_slice(first, segment, (self.segment + gap,))

  def loss(
    self, outputs: jax.Array | DeferredLogits, batch: Batch
  ) -> jax.Array:
    """The cross-entropy, nats per token, [B, T]."""
    return cross_entropy(outputs, batch.targets)

  def copied(self, batch: Batch) -> jax.Array:
    """Where the target is decided by what came before: the truth.

    Args:
      batch: from `batch`.

    Returns:
      Bool [B, T]: the inputs s_1 .. s_{R-1} of the repeat.
    """
    tokens, time = batch.inputs, jnp.arange(self.length)
    segment = tokens[:, : self.segment]

    def repeats(start: jax.Array) -> jax.Array:
      found = jax.lax.dynamic_slice_in_dim(tokens, start, self.segment, axis=1)
      return jnp.all(found == segment, axis=1)

    starts = self.segment + jnp.arange(self.max_gap + 1)
    at_GxB = jax.vmap(repeats)(starts)
    inside_GxT = (time[None] >= starts[:, None]) & (
      time[None] < starts[:, None] + self.segment - 1
    )
    return jnp.any(at_GxB[:, :, None] & inside_GxT[:, None], axis=0)

  @property
  def chance(self) -> float:
    """The loss of who copies nothing, nats per token, at every position."""
    return math.log(self.vocab_size)

  @property
  def bound(self) -> float:
    """What no predictor's mean loss falls below, nats per token.

    It is that of one who is told the gap: the repeat is free, a token of the
    first segment is none of those before it, all others are random.
    """
    first = sum(
      math.log(self.vocab_size - taken) for taken in range(1, self.segment)
    )
    others = self.length - (self.segment - 1) - self.segment
    return (first + others * self.chance) / self.length
