"""Trigger prefixes: where in a text neurons fire most, and what they share.

A prefix is a window's tokens up to and with a position. The running top k of
every neuron is all that is kept while a text streams by, so memory does not
grow with the text.

Source: Geva et al. (2021), arXiv 2012.14913, sections 3 and 4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

REPEATED = 3
"""Triggers that must share an ending for it to count as a pattern."""


class Triggers(NamedTuple):
  """The prefixes on which neurons fire most, strongest first.

  Attributes:
    coefficient: the neuron's activation there, [..., F, k]; -inf where fewer
      than k prefixes were seen.
    window: in which window, integer [..., F, k]; -1 where there is none.
    position: of the prefix' last token, integer [..., F, k]; -1 likewise.
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
  """The top k of nothing, to be merged into.

  Args:
    shape: of the neurons, as (L, F).
    top: how many to keep, k.
    dtype: of the coefficients.

  Returns:
    Triggers with no prefix in them.
  """
  none = jnp.full((*shape, top), -1, jnp.int32)
  return Triggers(jnp.full((*shape, top), -jnp.inf, dtype), none, none)


def merge_triggers(
  found: Triggers,
  coefficients: jax.Array,
  first: jax.Array | int,
  counted: jax.Array,
) -> Triggers:
  """The top k of what was found and of one more batch.

  Of equal coefficients the earliest wins: the lower window, then the lower
  position. For that, batches must come in the order of their windows.

  Args:
    found: the top k so far, of neurons [..., F].
    coefficients: activations of the batch, [..., B, T, F].
    first: number of the batch's first window.
    counted: which prefixes may be chosen, boolean [B, T]; `distinct_prefixes`
      keeps one from taking two places.

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
  # Ties go to the lower index, hence to what was found earlier.
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
  """The first of all equal prefixes.

  Windows that begin alike share their first prefixes, with equal activations:
  each would fill the top k of a neuron that fires there.

  Args:
    windows: tokens, non-negative integers [W, T].

  Returns:
    Boolean [W, T], False where an earlier window has the same tokens up to that
    position.
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
    window: which windows, integer [...].
    position: where the prefixes end, integer [...].
    count: tokens to read, n.

  Returns:
    Integer [..., n]; -1 before a window's first token.
  """
  at = position[..., None] - jnp.arange(count).reshape(
    (1,) * position.ndim + (count,)
  )
  return jnp.where(at < 0, -1, windows[window[..., None], jnp.maximum(at, 0)])


class Patterns(NamedTuple):
  """What the triggers of a neuron have in common, each [F].

  Attributes:
    purity: share of them with the commonest ending.
    coverage: share of them whose ending is that of at least `REPEATED`.
    number: how many endings at least `REPEATED` of them have.
  """

  purity: jax.Array
  coverage: jax.Array
  number: jax.Array


def patterns(ends: jax.Array, fired: jax.Array) -> Patterns:
  """Endings that a neuron's triggers share, a countable kind of pattern.

  Differs from Geva et al. (2021), section 3, whose experts name patterns of any
  kind; as there, a pattern must occur in at least `REPEATED` of the triggers.

  Args:
    ends: the last n tokens of every trigger, integer [F, k, n].
    fired: which triggers count, boolean [F, k].

  Returns:
    The measures of every neuron; 0 for one without triggers.
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
