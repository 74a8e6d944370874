"""Times of plain JAX attention under changed block sizes."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import attention_contenders, timing
from experiments.benchmarks.attention_contenders import (
  CAUSAL,
  MYOPIC,
  AttentionShape,
  parse_shape,
)
from experiments.benchmarks.timing import Samples
from experiments.common import progress
from jaxlook.attention import blockwise
from jaxlook.attention.block_sizes import MEASURED, BlockLimits
from jaxlook.attention.masks import DistanceRanges

UNCHANGED = "as it is"

RefitTimes = dict[str, dict[str, Samples]]
"""Times by variant with shape, and by change."""


@dataclasses.dataclass(frozen=True)
class RefitConfig:
  """A scale of the benchmark of block sizes.

  Attributes:
    changes: by shape and field of the limits, its other values.
    rounds: of timing.
    limits: the limits of which one field at a time is changed.
  """

  changes: Mapping[str, Mapping[str, tuple[int, ...]]]
  rounds: int = 9
  limits: BlockLimits = MEASURED


def measure(config: RefitConfig) -> RefitTimes:
  """Times all changes at every shape, in turns."""
  found = {}
  for text, changes in config.changes.items():
    shape = parse_shape(text)
    limits = {UNCHANGED: config.limits} | {
      f"{field}={value}": dataclasses.replace(config.limits, **{field: value})
      for field, values in changes.items()
      for value in values
    }
    for variant in (CAUSAL, MYOPIC):
      runs = {
        name: _compile(shape, variant, each) for name, each in limits.items()
      }
      label = f"{variant} at {shape}"
      with progress.count(label, config.rounds, "rounds") as tick:
        found[label] = timing.interleave(runs, config.rounds, tick=tick)
  return found


def _compile(
  shape: AttentionShape, variant: str, limits: BlockLimits
) -> Callable[[], None]:
  """Compiles a pass forward and backward in plain JAX.

  Args:
    shape: of the arrays.
    variant: `causal`, where keys and values learn from all pairs, or `myopic`.
    limits: the block sizes.

  Returns:
    A function that does one pass and waits for it.
  """
  ranges: DistanceRanges = ((0, shape.length - 1),)
  learns: DistanceRanges = ranges if variant == CAUSAL else ((0, 0),)
  static: dict[str, Any] = dict(
    ranges=ranges, scale=shape.head_width**-0.5, limits=limits
  )

  def both(query, key, value, grad):
    out, lse = blockwise.forward(query, key, value, **static)
    return out, blockwise.backward(
      query,
      key,
      value,
      out,
      lse,
      grad,
      key_ranges=(learns,),
      value_ranges=(learns,),
      **static,
    )

  arrays = [jnp.asarray(x) for x in attention_contenders.arrays(shape)]
  compiled = jax.jit(both).lower(*arrays).compile()
  return lambda: jax.block_until_ready(compiled(*arrays))
