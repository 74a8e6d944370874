"""A narrow set of distances, in work linear in the length.

Where few distances are live, the gradient to keys and values needs no score
matrix: one distance is a shift and a product by element; a band of some is
blocks of queries, each against its own and the preceding block of keys.

Arrays are [B, N, T, H] here, and queries carry the scale of the scores.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.attention.masks import DistanceRanges, width

# Queries of a block: smaller products do not pay, larger ones need memory.
_SMALLEST, _LARGEST = 16, 64


def suits(pairs: DistanceRanges, length: int) -> bool:
  """Whether a band costs less than masking the whole matrix.

  Args:
    pairs: the set; a band is a single range.
    length: number of positions T.

  Returns:
    Whether `backward` should be used for it.
  """
  if len(pairs) != 1:
    return False
  # Four products with two blocks of keys, or two with half of all keys.
  return width(pairs) == 1 or (
    _block(pairs) <= _LARGEST and 8 * _block(pairs) <= length
  )


def _block(pairs: DistanceRanges) -> int:
  """Queries of a block, not fewer than the keys that reach further back."""
  return max(_SMALLEST, 1 << (width(pairs) - 2).bit_length())


def read_one(
  query: jax.Array, key: jax.Array, value: jax.Array, distance: int
) -> tuple[jax.Array, jax.Array]:
  """Attention to the key at one distance: its weight is 1.

  Args:
    query: [B, N, T, H], scaled.
    key: [B, N, S, H].
    value: [B, N, S, H].
    distance: between query and key.

  Returns:
    The output [B, N, T, H] and the scores, which are the log-sum-exps,
    [B, N, T, 1]: 0 and -inf where no key stands at that distance.
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
  pairs: DistanceRanges,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The gradients through a set that `suits`.

  Args:
    query: [B, N, T, H], scaled.
    key: [B, N, S, H].
    value: [B, N, S, H].
    lse: log-sum-exps of all scores behind the output, [B, N, T, 1].
    delta: the products of the output and its cotangent, [B, N, T, 1].
    grad: the cotangent, [B, N, T, H].
    pairs: the set.

  Returns:
    The gradients to the queries (without the scale), to the keys and to the
    values, [B, N, T, H].
  """
  if width(pairs) > 1:
    return _by_blocks(query, key, value, lse, delta, grad, pairs)
  distance = pairs[0][0]
  att_BxNxTx1 = jnp.exp(_score(query, key, distance) - lse)
  moved_BxNxTx1 = jnp.sum(grad * shift(value, distance), -1, keepdims=True)
  change_BxNxTx1 = att_BxNxTx1 * (moved_BxNxTx1 - delta)
  return (
    change_BxNxTx1 * shift(key, distance),
    shift(change_BxNxTx1 * query, -distance),
    shift(att_BxNxTx1 * grad, -distance),
  )


def shift(x: jax.Array, distance: int) -> jax.Array:
  """Brings what stands at t - distance to t, and zeros where nothing does.

  Args:
    x: [B, N, T, H].
    distance: of any sign.

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
  there = jnp.arange(query.shape[2])[:, None] >= distance
  return jnp.where(there[None, None], score, -jnp.inf)


def _by_blocks(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  lse: jax.Array,
  delta: jax.Array,
  grad: jax.Array,
  pairs: DistanceRanges,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`backward` for a range: R blocks of C queries against 2 C keys each."""
  batch, heads, length, _ = query.shape
  ((low, high),) = pairs
  size = _block(pairs)
  blocks = -(-length // size)
  rest = blocks * size - length

  def split(x: jax.Array, before: int = 0) -> jax.Array:
    x = jnp.pad(x, ((0, 0), (0, 0), (before, rest), (0, 0)))
    return x.reshape(batch, heads, -1, size, x.shape[-1])

  def keys(x: jax.Array) -> jax.Array:
    both = split(shift(x, low), before=size)
    return jnp.concatenate([both[:, :, :-1], both[:, :, 1:]], axis=3)

  def gather(x_BxNxRx2CxH: jax.Array) -> jax.Array:
    earlier, own = jnp.split(x_BxNxRx2CxH, 2, axis=3)
    nothing = jnp.zeros_like(own[:, :, :1])
    own += jnp.concatenate([earlier[:, :, 1:], nothing], axis=2)
    whole = own.reshape(batch, heads, blocks * size, own.shape[-1])
    return shift(whole[:, :, :length], -low)

  # Distances beyond `low`, [C, 2 C], where the key exists, [R, C, 2 C].
  query_place, key_place = np.arange(size)[:, None], np.arange(2 * size)[None]
  beyond = query_place + size - key_place
  place = (np.arange(blocks) * size)[:, None, None] + query_place[None]
  seen = (beyond >= 0) & (beyond <= high - low)
  seen = seen[None] & (beyond[None] + low <= place)
  query, grad = split(query), split(grad)
  scores = jnp.einsum("bnrch,bnrkh->bnrck", query, keys(key))
  # Queries beyond the end have cotangent 0 and any finite log-sum-exp.
  att = jnp.exp(jnp.where(seen[None, None], scores, -jnp.inf) - split(lse))
  moved = jnp.einsum("bnrch,bnrkh->bnrck", grad, keys(value))
  change = att * (moved - split(delta))
  to_query = jnp.einsum("bnrck,bnrkh->bnrch", change, keys(key))
  return (
    to_query.reshape(batch, heads, -1, key.shape[-1])[:, :, :length],
    gather(jnp.einsum("bnrck,bnrch->bnrkh", change, query)),
    gather(jnp.einsum("bnrck,bnrch->bnrkh", att, grad)),
  )
