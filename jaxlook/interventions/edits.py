"""The usual edits of an activation or of a part of it.

`patch`, `zero`, `mean`, `resample` and `steer` return edits for
`interventions.run`: functions from an activation to its replacement. Each takes
`where`, a function from the activation to a boolean mask. The mask has the same
number of axes; each axis has the activation's size or size 1. `at` and
`at_edges` make such functions; None edits the whole activation.

Sources: Wang et al. (2022), arXiv 2211.00593, for mean ablation; Chan et al.
(2022), "Causal scrubbing", for resampling; Turner et al. (2023), arXiv
2308.10248, for steering.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxlook.models.sites import Edit

Where = Callable[[jax.Array], jax.Array]
Picks = int | Sequence[int] | np.ndarray | jax.Array


def at(positions: Picks | None = None, heads: Picks | None = None) -> Where:
  """Chooses positions and heads, at every site except attention patterns.

  In a pattern the second axis is the head: use `at_edges` there.

  Args:
    positions: one integer or several; None for all. A traced integer that is
      out of range chooses nothing.
    heads: the same, for sites with heads.

  Returns:
    A function that makes the mask of an activation [B, T, ...] or [B, T, N, H].
    It raises ValueError if heads are chosen at a site without heads, or if an
    integer that is not traced is out of range.
  """

  def mask(x: jax.Array) -> jax.Array:
    by_position = _mask({"position": (1, positions)}, x, rank=3)
    return by_position & _mask({"head": (2, heads)}, x)

  return mask


def at_edges(
  queries: Picks | None = None,
  keys: Picks | None = None,
  heads: Picks | None = None,
) -> Where:
  """Chooses edges of an attention pattern by query, key and head.

  Args:
    queries: positions that read; see `at`.
    keys: positions that are read; see `at`.
    heads: see `at`.

  Returns:
    A function that makes the mask of a pattern [B, N, T, S]. It raises
    ValueError like that of `at`.
  """
  axes = {"head": (1, heads), "query": (2, queries), "key": (3, keys)}
  return functools.partial(_mask, axes)


def patch(value: jax.Array, where: Where | None = None) -> Edit:
  """Replaces an activation with a given one, for example from another run.

  Args:
    value: the new activation, with the same dtype and the same number of axes.
      Each axis has the same size or size 1; a mean over a batch has a first
      axis of size 1.
    where: what to edit.

  Returns:
    The edit. It raises ValueError if the value does not fit.
  """
  return _edit(lambda x: _spread(value, x), where)


def zero(where: Where | None = None) -> Edit:
  """Sets an activation to zero."""
  return _edit(jnp.zeros_like, where)


def mean(axes: int | tuple[int, ...] = 0, where: Where | None = None) -> Edit:
  """Replaces an activation with its mean over this batch.

  For a mean over other data use `patch`.

  Args:
    axes: the axes of the mean. 0, the batch, gives a mean for each position;
      (0, 1) also takes the mean over positions.
    where: what to edit. The mean is always over the whole batch.

  Returns:
    The edit.
  """

  def change(x: jax.Array) -> jax.Array:
    return _spread(jnp.mean(x, axis=axes, keepdims=True), x)

  return _edit(change, where)


def resample(key: jax.Array, where: Where | None = None) -> Edit:
  """Replaces each sequence's activation with that of another in the batch.

  The batch is rotated by a random step other than 0, so no sequence keeps its
  own activation. Edits of several sites with the same key use the same
  sequences.

  Args:
    key: a PRNG key, consumed.
    where: what to edit.

  Returns:
    The edit. It raises ValueError for a batch of one sequence.
  """

  def change(x: jax.Array) -> jax.Array:
    if x.shape[0] < 2:
      raise ValueError(
        f"resampling needs at least 2 sequences, not {x.shape[0]}"
      )
    return jnp.roll(x, jax.random.randint(key, (), 1, x.shape[0]), axis=0)

  return _edit(change, where)


def steer(vector: jax.Array, where: Where | None = None) -> Edit:
  """Adds a vector to an activation.

  Args:
    vector: has the activation's dtype and either its last axis only, or all of
      its axes, each with the same size or size 1.
    where: what to edit.

  Returns:
    The edit. It raises ValueError if the vector does not fit.
  """

  def change(x: jax.Array) -> jax.Array:
    fitted = vector
    if vector.ndim == 1:
      fitted = vector.reshape((1,) * (x.ndim - 1) + vector.shape)
    return x + _spread(fitted, x)

  return _edit(change, where)


def _edit(change: Edit, where: Where | None) -> Edit:
  """Restricts an edit to a part of the activation."""
  if where is None:
    return change

  def edit(x: jax.Array) -> jax.Array:
    mask = where(x)
    chex.assert_type(mask, bool)
    return jnp.where(_spread(mask, x), change(x), x)

  return edit


def _spread(value: jax.Array, x: jax.Array) -> jax.Array:
  """Broadcasts a value to the shape of an activation with as many axes."""
  sizes = zip(value.shape, x.shape, strict=False)
  if value.ndim != x.ndim or any(a not in (1, b) for a, b in sizes):
    raise ValueError(
      f"an array of shape {list(value.shape)} does not fit an activation of"
      f" shape {list(x.shape)}"
    )
  return jnp.broadcast_to(value, x.shape)


def _mask(
  axes: Mapping[str, tuple[int, Picks | None]], x: jax.Array, rank: int = 4
) -> jax.Array:
  """The mask of picks along axes of an activation with at least `rank` axes."""
  mask = jnp.ones((1,) * x.ndim, bool)
  for name, (axis, picks) in axes.items():
    if picks is None:
      continue
    if x.ndim < rank:
      raise ValueError(
        f"an activation of shape {list(x.shape)} has no {name} axis"
      )
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    mask &= _chosen(name, picks, x.shape[axis]).reshape(shape)
  return mask


def _chosen(name: str, picks: Picks, size: int) -> jax.Array:
  """Which of `size` indices are picked, bool [size]."""
  # The value of a traced integer is not known here.
  if not isinstance(picks, Tracer):
    known = np.asarray(picks)
    if known.dtype.kind not in "iu" or (
      known.size and not 0 <= known.min() <= known.max() < size
    ):
      raise ValueError(
        f"a {name} must be an integer in 0..{size - 1}, not {picks}"
      )
  ids = jnp.ravel(jnp.asarray(picks))
  return (jnp.arange(size)[:, None] == ids[None]).any(axis=1)
