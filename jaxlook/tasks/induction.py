"""Induction: a random segment of tokens that is repeated after a gap.

  s_1 .. s_R  g_1 .. g_G  s_1 .. s_R  f f f ...

s is the segment, g the gap, of a random length G per sequence, and f are random
fillers up to the end. From the second token of the repeat on, tokens can be
copied from the first segment; nothing else can be predicted. Computing anything
from s_r and its predecessor in the first segment does not help there; it helps
R + G positions later.

Source: the random repeated sequences of Olsson et al. (2022), "In-context
Learning and Induction Heads", arXiv 2209.11895; the gap is ours.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxlook.errors import SettingError
from jaxlook.tasks.losses import DeferredLogits, cross_entropy
from jaxlook.tasks.task import Batch


@dataclasses.dataclass(frozen=True)
class Induction:
  """The task at one difficulty.

  Attributes:
    vocab_size: number of tokens V.
    segment: length R of the segment; its tokens are distinct.
    max_gap: the largest gap; its length is uniform over 0..max_gap.
    length: positions per sequence.

  Raises:
    SettingError: a field is out of range.
  """

  vocab_size: int = 32
  segment: int = 16
  max_gap: int = 8
  length: int = 40

  def __post_init__(self):
    """Checks the fields."""
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
    """The smallest and the largest distance to the copied token, R + G - 1.

    It is counted from the query, which holds the token before the copied one,
    to the copied token in the first segment.
    """
    return self.segment - 1, self.segment + self.max_gap - 1

  def batch(
    self, key: jax.Array, size: int, fed: jax.Array | None = None
  ) -> Batch:
    """Draws sequences.

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
    """Marks positions whose target can be copied: s_1 .. s_{R-1} of the repeat.

    Args:
      batch: from `batch`.

    Returns:
      Bool [B, T].
    """
    tokens, time = batch.inputs, jnp.arange(self.length)
    segment = tokens[:, : self.segment]

    def repeats(start: jax.Array) -> jax.Array:
      window = jax.lax.dynamic_slice_in_dim(tokens, start, self.segment, axis=1)
      return jnp.all(window == segment, axis=1)

    starts = self.segment + jnp.arange(self.max_gap + 1)
    at_GxB = jax.vmap(repeats)(starts)
    inside_GxT = (time[None] >= starts[:, None]) & (
      time[None] < starts[:, None] + self.segment - 1
    )
    return jnp.any(at_GxB[:, :, None] & inside_GxT[:, None], axis=0)

  @property
  def chance(self) -> float:
    """The loss of a predictor that copies nothing, nats per token."""
    return math.log(self.vocab_size)

  @property
  def bound(self) -> float:
    """A lower bound of every predictor's mean loss, nats per token.

    It is the loss of a predictor that knows the gap: the repeat costs nothing,
    a token of the first segment differs from those before it, all other tokens
    are random.
    """
    first = sum(
      math.log(self.vocab_size - taken) for taken in range(1, self.segment)
    )
    others = self.length - (self.segment - 1) - self.segment
    return (first + others * self.chance) / self.length
