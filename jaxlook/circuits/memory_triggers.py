"""Triggers: the prefixes of a text on which neurons fire most.

A prefix is the tokens of a window up to a position, that position included.
Only the top k of every neuron so far are kept while the text is read, so memory
does not grow with the text.

Source: Geva et al. (2021), arXiv 2012.14913, sections 3 and 4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

REPEATED = 3
"""How many triggers must share an ending before it counts as a pattern."""


class Triggers(NamedTuple):
  """The prefixes on which neurons fire most, strongest first.

  Attributes:
    coefficient: the neuron's activation there, [..., F, k]; -inf where fewer
      than k prefixes were seen.
    window: number of the window, integer [..., F, k]; -1 where there is none.
    position: position of the prefix's last token, integer [..., F, k]; -1 where
      there is none.
  """

  coefficient: jax.Array
  window: jax.Array
  position: jax.Array

  @property
  def fired(self) -> jax.Array:
    """Where the neuron was active, coefficient > 0; boolean [..., F, k]."""
    return self.coefficient > 0.0


def no_triggers(
  shape: tuple[int, ...], top: int, dtype: jax.typing.DTypeLike = jnp.float32
) -> Triggers:
  """Triggers without any prefix: the start for `merge_triggers`.

  Args:
    shape: the axes of the neurons, for example (L, F).
    top: how many to keep, k.
    dtype: of the coefficients.

  Returns:
    Triggers without any prefix.
  """
  none = jnp.full((*shape, top), -1, jnp.int32)
  return Triggers(jnp.full((*shape, top), -jnp.inf, dtype), none, none)


def merge_triggers(
  found: Triggers,
  coefficients: jax.Array,
  first: jax.Array | int,
  counted: jax.Array,
) -> Triggers:
  """Updates the top k with one more batch.

  If coefficients are equal, the lower window wins, then the lower position. For
  this the batches must come in the order of their windows.

  Args:
    found: the top k so far, of neurons [..., F].
    coefficients: activations of the batch, [..., B, T, F].
    first: number of the batch's first window.
    counted: which prefixes may be chosen, boolean [B, T]. Use
      `distinct_prefixes`, so that no prefix is chosen twice.

  Returns:
    The top k of both.
  """
  batch, length, neurons = coefficients.shape[-3:]
  leading = coefficients.ndim - 3
  may = counted.reshape((1,) * leading + (*counted.shape, 1))
  allowed = jnp.where(may, coefficients, -jnp.inf)
  flat = allowed.reshape(*allowed.shape[:-3], batch * length, neurons)
  joined = jnp.concatenate([found.coefficient, flat.mT], axis=-1)
  top = found.coefficient.shape[-1]
  # Ties go to the lower index, hence to the earlier prefix.
  coefficient, index = jax.lax.top_k(joined, top)
  old = jnp.minimum(index, top - 1)
  new = index - top

  def choose(before: jax.Array, now: jax.Array) -> jax.Array:
    kept = jnp.take_along_axis(before, old, axis=-1)
    return jnp.where(index < top, kept, now)

  return Triggers(
    coefficient,
    choose(found.window, first + new // length),
    choose(found.position, new % length),
  )


def distinct_prefixes(windows: np.ndarray) -> np.ndarray:
  """Marks the first of equal prefixes.

  Windows that begin with the same tokens share their first prefixes, with equal
  activations. Without this mark they would fill the top k of a neuron that
  fires there.

  Args:
    windows: tokens, non-negative integers [W, T].

  Returns:
    Boolean [W, T]; False where an earlier window has the same tokens up to and
    including this position.
  """
  first = np.zeros(windows.shape, bool)
  prefix, tokens = np.zeros(len(windows), np.int64), windows.astype(np.int64)
  for position, column in enumerate(tokens.T):
    pair = prefix * (tokens.max() + 1) + column
    _, at, prefix = np.unique(pair, return_index=True, return_inverse=True)
    first[at, position] = True
  return first


def endings(
  windows: jax.Array, window: jax.Array, position: jax.Array, count: int
) -> jax.Array:
  """The last tokens of prefixes, the last one first.

  Args:
    windows: tokens, [W, T].
    window: the window of each prefix, integer [...].
    position: where each prefix ends, integer [...].
    count: how many tokens to read, n.

  Returns:
    Integer [..., n]; -1 before a window's first token.
  """
  at = position[..., None] - jnp.arange(count).reshape(
    (1,) * position.ndim + (count,)
  )
  return jnp.where(at < 0, -1, windows[window[..., None], jnp.maximum(at, 0)])


class Patterns(NamedTuple):
  """The endings that the triggers of a neuron share, each [F].

  Attributes:
    purity: share of triggers with the commonest ending.
    coverage: share of triggers whose ending at least `REPEATED` triggers share.
    number: how many endings at least `REPEATED` triggers share.
  """

  purity: jax.Array
  coverage: jax.Array
  number: jax.Array


def patterns(ends: jax.Array, fired: jax.Array) -> Patterns:
  """Counts the endings that a neuron's triggers share.

  In Geva et al. (2021), section 3, experts name patterns of any kind. Here only
  equal endings count. As in the paper, a pattern must occur in at least
  `REPEATED` triggers.

  Args:
    ends: the last n tokens of every trigger, integer [F, k, n].
    fired: which triggers count, boolean [F, k].

  Returns:
    The measures of every neuron; 0 for a neuron without triggers.
  """
  same = jnp.all(ends[:, :, None] == ends[:, None], axis=-1)
  both = fired[:, :, None] & fired[:, None]
  shared = jnp.sum(same & both, axis=-1)
  repeated = shared >= REPEATED
  count = jnp.maximum(jnp.sum(fired, axis=-1), 1)
  return Patterns(
    jnp.max(shared, axis=-1) / count,
    jnp.sum(repeated, axis=-1) / count,
    jnp.sum(repeated / jnp.maximum(shared, 1), axis=-1),
  )
