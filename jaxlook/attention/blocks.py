"""Panels of queries and tiles of keys: the blocks of the score matrix.

A panel is a block of queries and all the keys that they see. A tile is a panel
with a part of its keys, so small that its scores fit into the processor's
cache. Panels without any visible key are skipped. Arrays are [b, n, T, *].
"""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxlook.attention.block_sizes import BlockLimits
from jaxlook.attention.masks import DistanceRanges, in_ranges, span

Carry = TypeVar("Carry")


def lowest(x: jax.Array) -> jax.Array:
  """Returns a score for hidden keys: its exponential is 0.

  It is half the dtype's minimum, so that subtracting from it cannot overflow.

  Args:
    x: an array of the dtype.

  Returns:
    A scalar of that dtype.
  """
  return jnp.asarray(0.5 * jnp.finfo(x.dtype).min, x.dtype)


def _loop(
  count: int, one: Callable[[jax.Array | int, Carry], Carry], carry: Carry
) -> Carry:
  return one(0, carry) if count == 1 else lax.fori_loop(0, count, one, carry)


@dataclasses.dataclass(frozen=True)
class Tile:
  """Queries `row..row + rows` against keys `start..start + columns`.

  Attributes:
    row: first query.
    rows: number of queries.
    start: first key.
    columns: number of keys.
    ranges: the distances at which keys are visible.
  """

  row: jax.Array | int
  rows: int
  start: jax.Array | int
  columns: int
  ranges: DistanceRanges

  def queries(self, x: jax.Array) -> jax.Array:
    """Slices [b, n, T, *] to the tile's queries."""
    return lax.dynamic_slice_in_dim(x, self.row, self.rows, axis=2)

  def keys(self, x: jax.Array) -> jax.Array:
    """Slices [b, n, S, *] to the tile's keys."""
    return lax.dynamic_slice_in_dim(x, self.start, self.columns, axis=2)

  def put(self, whole: jax.Array, x: jax.Array) -> jax.Array:
    """Writes `x` at the tile's queries of [b, n, T, *]."""
    return lax.dynamic_update_slice_in_dim(whole, x, self.row, axis=2)

  def mask(self, x: jax.Array, other: jax.Array | float) -> jax.Array:
    """Puts `other` into [b, n, rows, columns] where the key is hidden."""
    query, key = (
      lax.broadcasted_iota(jnp.int32, x.shape[2:], axis) for axis in (0, 1)
    )
    distance = query - key + (self.row - self.start)
    return jnp.where(in_ranges(distance, self.ranges)[None, None], x, other)

  def scores(self, query: jax.Array, key: jax.Array) -> jax.Array:
    """Scores [b, n, rows, columns]; `lowest` where the key is hidden."""
    scores = jnp.einsum("bnth,bnsh->bnts", self.queries(query), self.keys(key))
    return self.mask(scores, lowest(query))

  def add(
    self,
    sums: jax.Array,
    x: jax.Array,
    weights: jax.Array,
    ranges: DistanceRanges,
  ) -> jax.Array:
    """Adds the tile's part of the gradient of keys or values.

    Args:
      sums: [b, n, H, S]; the longest axis is last, which is faster.
      x: [b, n, T, H], the term of each query.
      weights: factors [b, n, rows, columns] of each query's term for each key.
      ranges: the distances through which the gradient flows.

    Returns:
      The new sums.
    """
    if ranges != self.ranges:
      weights = dataclasses.replace(self, ranges=ranges).mask(weights, 0.0)
    more = jnp.einsum("bnth,bnts->bnhs", self.queries(x), weights)
    more += lax.dynamic_slice_in_dim(sums, self.start, self.columns, axis=3)
    return lax.dynamic_update_slice_in_dim(sums, more, self.start, axis=3)


@dataclasses.dataclass(frozen=True)
class Panels:
  """The panels of a sequence that have any visible key.

  Attributes:
    length: number of positions.
    rows: queries per panel.
    ranges: the distances at which keys are visible.
    limits: the largest sizes.
  """

  length: int
  rows: int
  ranges: DistanceRanges
  limits: BlockLimits

  @property
  def padded(self) -> int:
    """The length, rounded up to whole panels."""
    return -(-self.length // self.rows) * self.rows

  def pays_alone(self, ranges: DistanceRanges) -> bool:
    """Whether a sweep over these distances alone costs less than sharing one.

    A sweep over few distances visits less than half of all keys.
    """
    return 2 * (self.rows + span(ranges)) <= self.padded

  def sweep(self, step: Callable[[Tile, Carry], Carry], carry: Carry) -> Carry:
    """Runs a step for each panel, with all keys it sees; `over` cuts these."""
    low, high = self.ranges[0][0], self.ranges[-1][1]

    def run(first: int, last: int, start: int | None, columns: int, carry):
      def one(index: jax.Array | int, carry: Carry) -> Carry:
        row = first + index * self.rows
        begin = start
        if begin is None:
          begin = jnp.clip(row - high, 0, self.padded - columns)
        return step(Tile(row, self.rows, begin, columns, self.ranges), carry)

      return _loop((last - first) // self.rows, one, carry)

    # A multiple of `rows`, so that `over` can cut it into equal tiles.
    band = self.rows * -(-(self.rows + high - low) // self.rows)
    if 2 * band <= self.padded:
      return run(0, self.padded, None, band, carry)
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
    """Runs a step for each tile of a panel; tiles have equal widths."""
    # This ends: the columns are a multiple of `rows`.
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
    """Pads [b, n, T, *] to whole panels and casts to float32 or wider."""
    rest = self.padded - self.length
    return [
      jnp.pad(
        x.astype(jnp.promote_types(jnp.float32, x.dtype)),
        ((0, 0), (0, 0), (0, rest), (0, 0)),
      )
      for x in arrays
    ]
