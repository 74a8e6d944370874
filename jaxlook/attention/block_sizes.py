"""How attention's work in plain JAX is cut into steps of a bounded size.

One loop's steps run in turn on a CPU, so a step must hold enough work for every
core: its matrix products are split when they are large; where they are small,
a step holds independent lanes. Steps that are unrolled instead of looped over
are reordered by the compiler until the scores of all exist at the same time.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxlook.attention.masks import DistanceRanges, width


@dataclasses.dataclass(frozen=True)
class Limits:
  """Sizes that pay on a machine; `experiments.benchmarks.refit` measures them.

  Attributes:
    one_panel: the longest sequence whose scores are one panel.
    rows: the most queries of a panel in longer sequences.
    columns: the most keys of a tile.
    short_bytes: scores of one step, of all its lanes, where a panel is all.
    long_bytes: the same for longer sequences.
    lanes: independent parts of a step, where a panel is all.
    extents: how many rectangles cover the causal triangle: more waste less
      work, fewer compile faster.
  """

  one_panel: int = 256
  rows: int = 256
  columns: int = 1024
  short_bytes: int = 2**20
  long_bytes: int = 2**20
  lanes: int = 2
  extents: int = 8


MEASURED = Limits()


@dataclasses.dataclass(frozen=True)
class BlockPlan:
  """How the work on [B, T, N, H] is cut.

  Attributes:
    rows: queries of a panel.
    batch: sequences of a step; divides B.
    heads: heads of a step; divides N.
    lanes: independent parts of a step; divides batch.
  """

  rows: int
  batch: int
  heads: int
  lanes: int


def plan(
  shape: Sequence[int], pairs: DistanceRanges, limits: Limits = MEASURED
) -> BlockPlan:
  """Cuts the work so that the scores of a step stay within the limits.

  Steps are equal, so a batch whose number of sequences is prime goes one by one
  once it does not fit as a whole.

  Args:
    shape: B, T, N and H.
    pairs: what is attended to.
    limits: what pays.

  Returns:
    The plan.
  """
  batch, length, heads, _ = shape
  short = length <= limits.one_panel
  rows = length if short else -(-length // -(-length // limits.rows))
  columns = min(length, rows + width(pairs) - 1, limits.columns)
  room = limits.short_bytes if short else limits.long_bytes
  panels = max(1, room // (4 * rows * columns))
  some_heads = _divisor(heads, panels)
  some = _divisor(batch, max(1, panels // some_heads))
  return BlockPlan(
    rows, some, some_heads, _divisor(some, limits.lanes) if short else 1
  )


def _divisor(count: int, limit: int) -> int:
  """The largest divisor of a count up to a limit."""
  return next(n for n in range(min(count, limit), 0, -1) if count % n == 0)


def by_step(
  function: Callable[..., Sequence[jax.Array]],
  arrays: Sequence[jax.Array],
  cut: BlockPlan,
) -> list[jax.Array]:
  """Applies a function to some sequences and heads at a time.

  Args:
    function: of arrays [b, n, T, *], and giving such arrays.
    arrays: [B, T, N, *].
    cut: the plan.

  Returns:
    What the function gives, for all sequences and heads: [B, T, N, *].
  """
  batch, length, heads, _ = arrays[0].shape
  turn = functools.partial(jnp.swapaxes, axis1=1, axis2=2)
  if (cut.batch, cut.heads, cut.lanes) == (batch, heads, 1):
    return [turn(x) for x in function(*map(turn, arrays))]
  batches, groups = batch // cut.batch, heads // cut.heads
  lane = cut.batch // cut.lanes

  def size(x: jax.Array) -> tuple[int, ...]:
    return lane, length, cut.heads, x.shape[-1]

  some = [
    jax.ShapeDtypeStruct((lane, cut.heads, length, x.shape[-1]), x.dtype)
    for x in arrays
  ]
  # Different constants, or they would be one that is copied for each result.
  empty = [
    varying(jnp.full((*arrays[0].shape[:3], x.shape[-1]), i, x.dtype), arrays)
    for i, x in enumerate(jax.eval_shape(function, *some))
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
  """Types a constant as what a loop under `shard_map` makes of it.

  Args:
    x: the loop's first carry.
    like: what is read within the loop.

  Returns:
    The same values, varying over the mesh axes that any of these vary over.
  """
  for each in like:
    # Zero without looking at a value that may not be finite; compiled away.
    x += jnp.where(False, each[(0,) * each.ndim], 0.0).astype(x.dtype)
  return x
