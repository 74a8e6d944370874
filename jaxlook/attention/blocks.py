"""Where the scores of attention are: panels of queries, cut into tiles of keys.

A panel is a block of queries and all the keys that they see; a tile is a part
of its keys, so small that its scores fit into the processor's cache. Panels and
tiles that hold no pair of a set are not visited. Arrays are [b, n, T, *].
"""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxlook.attention.block_sizes import Limits
from jaxlook.attention.masks import DistanceRanges, chosen, width

Carry = TypeVar("Carry")


def lowest(x: jax.Array) -> jax.Array:
  """A score whose exponential is 0, far enough from the dtype's own lowest.

  Args:
    x: an array of the dtype.

  Returns:
    The score, a scalar of that dtype.
  """
  return jnp.asarray(0.5 * jnp.finfo(x.dtype).min, x.dtype)


def _loop(
  count: int, one: Callable[[jax.Array | int, Carry], Carry], carry: Carry
) -> Carry:
  return one(0, carry) if count == 1 else lax.fori_loop(0, count, one, carry)


@dataclasses.dataclass(frozen=True)
class Tile:
  """Queries `row..row + rows` against keys `start..start + columns`."""

  row: jax.Array | int
  rows: int
  start: jax.Array | int
  columns: int
  pairs: DistanceRanges

  def queries(self, x: jax.Array) -> jax.Array:
    """The tile's queries of [b, n, T, *]."""
    return lax.dynamic_slice_in_dim(x, self.row, self.rows, axis=2)

  def keys(self, x: jax.Array) -> jax.Array:
    """The tile's keys of [b, n, S, *]."""
    return lax.dynamic_slice_in_dim(x, self.start, self.columns, axis=2)

  def put(self, whole: jax.Array, x: jax.Array) -> jax.Array:
    """Writes to the tile's queries of [b, n, T, *]."""
    return lax.dynamic_update_slice_in_dim(whole, x, self.row, axis=2)

  def mask(self, x: jax.Array, other: jax.Array | float) -> jax.Array:
    """Puts `other` where [b, n, rows, columns] is at no pair of the set."""
    query, key = (
      lax.broadcasted_iota(jnp.int32, x.shape[2:], axis) for axis in (0, 1)
    )
    distance = query - key + (self.row - self.start)
    return jnp.where(chosen(distance, self.pairs)[None, None], x, other)

  def scores(self, query: jax.Array, key: jax.Array) -> jax.Array:
    """[b, n, rows, columns], the lowest where there is no pair."""
    scores = jnp.einsum("bnth,bnsh->bnts", self.queries(query), self.keys(key))
    return self.mask(scores, lowest(query))

  def add(
    self,
    sums: jax.Array,
    x: jax.Array,
    weights: jax.Array,
    pairs: DistanceRanges,
  ) -> jax.Array:
    """Adds the tile's share, through a set, of a gradient to keys or values.

    Args:
      sums: [b, n, H, S]: the product's long side comes last, which is faster.
      x: [b, n, T, H], what each query gives.
      weights: how much of it each key gets, [b, n, rows, columns].
      pairs: the set.

    Returns:
      The new sums.
    """
    if pairs != self.pairs:
      weights = dataclasses.replace(self, pairs=pairs).mask(weights, 0.0)
    more = jnp.einsum("bnth,bnts->bnhs", self.queries(x), weights)
    more += lax.dynamic_slice_in_dim(sums, self.start, self.columns, axis=3)
    return lax.dynamic_update_slice_in_dim(sums, more, self.start, axis=3)


@dataclasses.dataclass(frozen=True)
class Panels:
  """The panels of a length that hold any pair of a set.

  Attributes:
    length: number of positions.
    rows: queries of a panel.
    pairs: the set.
    limits: how finely they are cut.
  """

  length: int
  rows: int
  pairs: DistanceRanges
  limits: Limits

  @property
  def padded(self) -> int:
    """The length in whole panels."""
    return -(-self.length // self.rows) * self.rows

  def pays_alone(self, pairs: DistanceRanges) -> bool:
    """Whether a set of few distances is better swept on its own."""
    return 2 * (self.rows + width(pairs)) <= self.padded

  def sweep(self, step: Callable[[Tile, Carry], Carry], carry: Carry) -> Carry:
    """Runs a step over the panels: all their keys, to be cut by `over`."""
    low, high = self.pairs[0][0], self.pairs[-1][1]

    def run(first: int, last: int, start: int | None, columns: int, carry):
      def one(index: jax.Array | int, carry: Carry) -> Carry:
        row = first + index * self.rows
        begin = start
        if begin is None:
          begin = jnp.clip(row - high, 0, self.padded - columns)
        return step(Tile(row, self.rows, begin, columns, self.pairs), carry)

      return _loop((last - first) // self.rows, one, carry)

    # Whole numbers of rows, which can be cut into tiles of equal size.
    moving = self.rows * -(-(self.rows + high - low) // self.rows)
    if 2 * moving <= self.padded:
      return run(0, self.padded, None, moving, carry)
    panels = self.padded // self.rows
    stride = self.rows * -(-panels // self.limits.extents)
    for first in range(0, self.padded, stride):
      last = min(first + stride, self.padded)
      start = max(0, first - high) // self.rows * self.rows
      if last - low > start:
        carry = run(first, last, start, last - start, carry)
    return carry

  def over(
    self, step: Callable[[Tile, Carry], Carry], panel: Tile, carry: Carry
  ) -> Carry:
    """Runs a step over the tiles of a panel, of equal numbers of keys."""
    # At worst the tiles are as wide as a panel has rows.
    count = -(-panel.columns // self.limits.columns)
    while panel.columns % count:
      count += 1
    columns = panel.columns // count

    def one(index: jax.Array | int, carry: Carry) -> Carry:
      start = panel.start + index * columns
      return step(
        dataclasses.replace(panel, start=start, columns=columns), carry
      )

    return _loop(count, one, carry)

  def pad(self, *arrays: jax.Array) -> list[jax.Array]:
    """Pads [b, n, T, *] to whole panels, in the dtype to compute in."""
    rest = self.padded - self.length
    return [
      jnp.pad(
        x.astype(jnp.promote_types(jnp.float32, x.dtype)),
        ((0, 0), (0, 0), (0, rest), (0, 0)),
      )
      for x in arrays
    ]
