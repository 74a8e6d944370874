"""Sizes of the steps into which attention in plain JAX is cut.

A CPU runs the steps of a loop one after another, so each step must have enough
work for every core. The compiler splits large matrix products over the cores;
where products are small, a step holds several independent lanes. Steps are
looped over, not unrolled: the compiler reorders unrolled steps until the scores
of all steps exist at the same time.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxlook.attention.masks import DistanceRanges, span


@dataclasses.dataclass(frozen=True)
class BlockLimits:
  """Block sizes for a machine; `experiments.benchmarks.refit` measures them.

  Attributes:
    one_panel: the longest sequence that is computed as one panel.
    rows: most queries per panel in longer sequences.
    columns: most keys per tile.
    short_bytes: bytes of scores per step, over all lanes, for one panel.
    long_bytes: the same for longer sequences.
    lanes: independent parts of a step, for one panel.
    extents: number of rectangles that cover the causal triangle. More of them
      waste less work; fewer compile faster.
  """

  one_panel: int = 256
  rows: int = 256
  columns: int = 1024
  short_bytes: int = 2**20
  long_bytes: int = 2**20
  lanes: int = 2
  extents: int = 8


MEASURED = BlockLimits()


@dataclasses.dataclass(frozen=True)
class BlockPlan:
  """Block sizes for arrays [B, T, N, H].

  Attributes:
    rows: queries per panel.
    batch: sequences per step; divides B.
    heads: heads per step; divides N.
    lanes: independent parts of a step; divides `batch`.
  """

  rows: int
  batch: int
  heads: int
  lanes: int


def plan(
  shape: Sequence[int], ranges: DistanceRanges, limits: BlockLimits = MEASURED
) -> BlockPlan:
  """Chooses block sizes so that the scores of a step stay within the limits.

  All steps have the same size. So a batch with a prime number of sequences runs
  one sequence per step if it does not fit into one step.

  Args:
    shape: B, T, N and H.
    ranges: the distances attended to.
    limits: the largest sizes.

  Returns:
    The block sizes.
  """
  batch, length, heads, _ = shape
  short = length <= limits.one_panel
  rows = length if short else -(-length // -(-length // limits.rows))
  columns = min(length, rows + span(ranges) - 1, limits.columns)
  room = limits.short_bytes if short else limits.long_bytes
  panels = max(1, room // (4 * rows * columns))
  step_heads = _divisor(heads, panels)
  step_batch = _divisor(batch, max(1, panels // step_heads))
  return BlockPlan(
    rows=rows,
    batch=step_batch,
    heads=step_heads,
    lanes=_divisor(step_batch, limits.lanes) if short else 1,
  )


def _divisor(count: int, limit: int) -> int:
  """The largest divisor of `count` that is at most `limit`."""
  return next(n for n in range(min(count, limit), 0, -1) if count % n == 0)


def by_step(
  function: Callable[..., Sequence[jax.Array]],
  arrays: Sequence[jax.Array],
  cut: BlockPlan,
) -> list[jax.Array]:
  """Applies a function to a few sequences and heads at a time.

  Args:
    function: maps arrays [b, n, T, *] to such arrays.
    arrays: [B, T, N, *].
    cut: the block sizes.

  Returns:
    The function's results for all sequences and heads, [B, T, N, *].
  """
  batch, length, heads, _ = arrays[0].shape
  turn = functools.partial(jnp.swapaxes, axis1=1, axis2=2)
  if (cut.batch, cut.heads, cut.lanes) == (batch, heads, 1):
    return [turn(x) for x in function(*map(turn, arrays))]
  batches, groups = batch // cut.batch, heads // cut.heads
  lane = cut.batch // cut.lanes

  def size(x: jax.Array) -> tuple[int, ...]:
    return lane, length, cut.heads, x.shape[-1]

  lane_shapes = [
    jax.ShapeDtypeStruct((lane, cut.heads, length, x.shape[-1]), x.dtype)
    for x in arrays
  ]
  # The fill values differ because the compiler would merge equal constants and
  # then copy the one constant for each result.
  empty = [
    varying(jnp.full((*arrays[0].shape[:3], x.shape[-1]), i, x.dtype), arrays)
    for i, x in enumerate(jax.eval_shape(function, *lane_shapes))
  ]

  def step(index: jax.Array, outs: list[jax.Array]) -> list[jax.Array]:
    first = index // groups * cut.batch
    starts = [
      (first + i * lane, 0, index % groups * cut.heads, 0)
      for i in range(cut.lanes)
    ]
    parts = [
      function(*(turn(lax.dynamic_slice(x, at, size(x))) for x in arrays))
      for at in starts
    ]
    for at, part in zip(starts, parts, strict=True):
      outs = [
        lax.dynamic_update_slice(out, turn(x), at)
        for out, x in zip(outs, part, strict=True)
      ]
    return outs

  return lax.fori_loop(0, batches * groups, step, empty)


def varying(x: jax.Array, like: Sequence[jax.Array]) -> jax.Array:
  """Gives a constant the type that a loop under `shard_map` needs.

  Args:
    x: the loop's first carry.
    like: the arrays that the loop reads.

  Returns:
    `x`, marked as varying over every mesh axis over which `like` varies.
  """
  for each in like:
    # Adds 0 even where `each` is not finite; the compiler removes it.
    x += jnp.where(False, each[(0,) * each.ndim], 0.0).astype(x.dtype)
  return x
