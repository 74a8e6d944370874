"""Attention over a narrow range of distances, in work linear in the length.

Through few distances, the gradient of keys and values needs no score matrix.
One distance is a shift and an elementwise product. A wider band is cut into
blocks of queries; each block meets its own and the preceding block of keys.

Arrays are [B, N, T, H], and queries are already multiplied by the scale.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.attention.masks import DistanceRanges, span

# Queries per block. Smaller matrix products are slow; larger ones need memory.
_SMALLEST, _LARGEST = 16, 64


def pays_off(ranges: DistanceRanges, length: int) -> bool:
  """Whether a band costs less than masking the whole score matrix.

  Args:
    ranges: the distances; a band is a single range.
    length: number of positions T.

  Returns:
    Whether `backward` should be used for these distances.
  """
  if len(ranges) != 1:
    return False
  # A band costs four products with two blocks of keys; the whole matrix costs
  # two products with half of all keys.
  return span(ranges) == 1 or (
    _block(ranges) <= _LARGEST and 8 * _block(ranges) <= length
  )


def _block(ranges: DistanceRanges) -> int:
  """Queries per block; the band must reach at most one block back."""
  return max(_SMALLEST, 1 << (span(ranges) - 2).bit_length())


def read_one(
  query: jax.Array, key: jax.Array, value: jax.Array, distance: int
) -> tuple[jax.Array, jax.Array]:
  """Attends to the key at one distance, whose weight is 1.

  Args:
    query: [B, N, T, H], scaled.
    key: [B, N, S, H].
    value: [B, N, S, H].
    distance: between query and key.

  Returns:
    The output [B, N, T, H] and the log-sum-exps [B, N, T, 1], which equal the
    scores here; 0 and -inf where there is no key at that distance.
  """
  return shift(value, distance), _score(query, key, distance)


def backward(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  lse: jax.Array,
  delta: jax.Array,
  grad: jax.Array,
  *,
  ranges: DistanceRanges,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Computes the gradients through distances for which `pays_off` is true.

  Args:
    query: [B, N, T, H], scaled.
    key: [B, N, S, H].
    value: [B, N, S, H].
    lse: log-sum-exps of all scores of each query, [B, N, T, 1].
    delta: dot products of the output and its cotangent, [B, N, T, 1].
    grad: the cotangent of the output, [B, N, T, H].
    ranges: the distances.

  Returns:
    The gradients of the queries (without the scale), keys and values,
    [B, N, T, H].
  """
  if span(ranges) > 1:
    return _by_blocks(query, key, value, lse, delta, grad, ranges)
  distance = ranges[0][0]
  att_BxNxTx1 = jnp.exp(_score(query, key, distance) - lse)
  grad_att_BxNxTx1 = jnp.sum(grad * shift(value, distance), -1, keepdims=True)
  grad_scores_BxNxTx1 = att_BxNxTx1 * (grad_att_BxNxTx1 - delta)
  return (
    grad_scores_BxNxTx1 * shift(key, distance),
    shift(grad_scores_BxNxTx1 * query, -distance),
    shift(att_BxNxTx1 * grad, -distance),
  )


def shift(x: jax.Array, distance: int) -> jax.Array:
  """Moves position t - distance to t; zeros where there is no such position.

  Args:
    x: [B, N, T, H].
    distance: positive, negative or 0.

  Returns:
    [B, N, T, H].
  """
  length = x.shape[2]
  ahead, behind = max(distance, 0), max(-distance, 0)
  kept = x[:, :, behind : max(length - ahead, behind)]
  size = length - kept.shape[2]
  before = min(ahead, size)
  return jnp.pad(kept, ((0, 0), (0, 0), (before, size - before), (0, 0)))


def _score(query: jax.Array, key: jax.Array, distance: int) -> jax.Array:
  """Scores at one distance, [B, N, T, 1]; -inf where there is no key."""
  score = jnp.sum(query * shift(key, distance), axis=-1, keepdims=True)
  exists = jnp.arange(query.shape[2])[:, None] >= distance
  return jnp.where(exists[None, None], score, -jnp.inf)


def _by_blocks(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  lse: jax.Array,
  delta: jax.Array,
  grad: jax.Array,
  ranges: DistanceRanges,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`backward` for a range: R blocks of C queries against 2 C keys each."""
  batch, heads, length, _ = query.shape
  ((low, high),) = ranges
  size = _block(ranges)
  blocks = -(-length // size)
  rest = blocks * size - length

  def split(x: jax.Array, before: int = 0) -> jax.Array:
    x = jnp.pad(x, ((0, 0), (0, 0), (before, rest), (0, 0)))
    return x.reshape(batch, heads, -1, size, x.shape[-1])

  def keys(x: jax.Array) -> jax.Array:
    both = split(shift(x, low), before=size)
    return jnp.concatenate([both[:, :, :-1], both[:, :, 1:]], axis=3)

  def add_blocks(x_BxNxRx2CxH: jax.Array) -> jax.Array:
    earlier, own = jnp.split(x_BxNxRx2CxH, 2, axis=3)
    zeros = jnp.zeros_like(own[:, :, :1])
    own += jnp.concatenate([earlier[:, :, 1:], zeros], axis=2)
    whole = own.reshape(batch, heads, blocks * size, own.shape[-1])
    return shift(whole[:, :, :length], -low)

  # Distance minus `low`, [C, 2 C]; whether the key exists, [R, C, 2 C].
  query_place, key_place = np.arange(size)[:, None], np.arange(2 * size)[None]
  beyond = query_place + size - key_place
  place = (np.arange(blocks) * size)[:, None, None] + query_place[None]
  seen = (beyond >= 0) & (beyond <= high - low)
  seen = seen[None] & (beyond[None] + low <= place)
  query, grad = split(query), split(grad)
  scores = jnp.einsum("bnrch,bnrkh->bnrck", query, keys(key))
  # Padded queries have cotangent 0 and a finite log-sum-exp: they add nothing.
  att = jnp.exp(jnp.where(seen[None, None], scores, -jnp.inf) - split(lse))
  grad_att = jnp.einsum("bnrch,bnrkh->bnrck", grad, keys(value))
  grad_scores = att * (grad_att - split(delta))
  grad_query = jnp.einsum("bnrck,bnrkh->bnrch", grad_scores, keys(key))
  return (
    grad_query.reshape(batch, heads, -1, key.shape[-1])[:, :, :length],
    add_blocks(jnp.einsum("bnrck,bnrch->bnrkh", grad_scores, query)),
    add_blocks(jnp.einsum("bnrck,bnrch->bnrkh", att, grad)),
  )
