"""Which sizes of tiles and steps pay on this machine?

    python -m experiments.benchmarks.refit [--preset=smoke|cpu|paper]
        [--out=DIR] [--rounds=9]

Times causal and myopic attention in plain JAX, forward and backward, under
`jaxlook.attention.block_sizes.MEASURED` and under limits that differ in one
number, all in turns, and says by which factor each changes the time. A number
that is clearly below 1 at the shapes you care for belongs into `MEASURED`; then
run it again, for the numbers depend on each other. `cpu` is for a processor;
`paper` wants a GPU and starts from `jaxlook.attention.dispatch.WIDE`. Not
refitted: from which length on kernels run there (`devices`), and which windows
are narrow (`band`).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import contenders, output, timing
from experiments.benchmarks.contenders import Shape, parse_shape
from experiments.benchmarks.timing import Samples
from experiments.common import (
  app,
  presets,
  progress,
  results_writer,
  shared_flags,
  train_arms,
)
from jaxlook.attention import blockwise
from jaxlook.attention.block_sizes import MEASURED, BlockLimits
from jaxlook.attention.dispatch import WIDE
from jaxlook.attention.masks import DistanceRanges

shared_flags.adopt(__name__, "preset", "rounds", "out")

NAME = "benchmarks.refit"
_NOW = "as it is"
_SHORT = {"short_bytes": (2**19, 2**21), "lanes": (1, 4)}
_LONG = {
  "rows": (128, 512),
  "columns": (512, 2048),
  "long_bytes": (2**19, 2**21),
  "extents": (4, 16),
}


@dataclasses.dataclass(frozen=True)
class RefitConfig:
  """A scale of the benchmark.

  Attributes:
    changes: by shape, what each number is changed to.
    rounds: of timing.
    limits: those that are changed.
  """

  changes: Mapping[str, Mapping[str, tuple[int, ...]]]
  rounds: int = 9
  limits: BlockLimits = MEASURED


_FILL = {
  "one_panel": (256, 1024),
  "rows": (256, 1024),
  "columns": (1024, 8192),
  "short_bytes": (2**26, 2**28),
  "long_bytes": (2**26, 2**30),
}

PRESETS = {
  "smoke": RefitConfig({"2x16x2x8": {"lanes": (1,)}}, rounds=2),
  "cpu": RefitConfig(
    {
      "64x32x2x32": _SHORT,
      "512x64x2x64": _SHORT,
      "8x256x4x64": {**_SHORT, "one_panel": (128,)},
      "8x512x4x64": {**_LONG, "one_panel": (512,)},
      "4x1024x8x64": _LONG,
      "1x4096x4x64": _LONG,
    }
  ),
  "paper": RefitConfig(
    {
      "512x64x2x64": _FILL,
      "8x512x12x64": _FILL,
      "8x1024x12x64": _FILL,
      "1x4096x16x64": _FILL,
    },
    limits=WIDE,
  ),
}


def prepare(shape: Shape, own: str, limits: BlockLimits) -> Callable[[], None]:
  """Compiles a pass forward and backward in plain JAX.

  Args:
    shape: of the arrays.
    own: `causal`, where keys and values learn through all pairs, or `myopic`.
    limits: how the work is cut.

  Returns:
    What runs it.
  """
  ranges: DistanceRanges = ((0, shape.length - 1),)
  learns: DistanceRanges = ranges if own == contenders.CAUSAL else ((0, 0),)
  static: dict[str, Any] = dict(
    ranges=ranges, scale=shape.head_width**-0.5, limits=limits
  )

  def both(query, key, value, grad):
    out, lse = blockwise.forward(query, key, value, **static)
    return out, blockwise.backward(
      *(query, key, value, out, lse, grad),
      key_ranges=(learns,),
      value_ranges=(learns,),
      **static,
    )

  arrays = [jnp.asarray(x) for x in contenders.arrays(shape)]
  compiled = jax.jit(both).lower(*arrays).compile()
  return lambda: jax.block_until_ready(compiled(*arrays))


def measure(config: RefitConfig) -> dict[str, dict[str, Samples]]:
  """Times every change, by shape with spec, and by change."""
  found = {}
  for text, changes in config.changes.items():
    shape = parse_shape(text)
    limits = {_NOW: config.limits} | {
      f"{field}={value}": dataclasses.replace(config.limits, **{field: value})
      for field, values in changes.items()
      for value in values
    }
    for own in (contenders.CAUSAL, contenders.MYOPIC):
      runs = {name: prepare(shape, own, each) for name, each in limits.items()}
      label = f"{own} at {shape}"
      with progress.count(label, config.rounds, "rounds") as tick:
        found[label] = timing.interleave(runs, config.rounds, tick=tick)
  return found


def table(samples: Mapping[str, Samples]) -> list[list[str]]:
  """Time under each change, and over that under the limits as they are."""
  rows = [["limits", "ms", "quartiles", "busy cores", f"over {_NOW}"]]
  for name, each in samples.items():
    over = timing.ratio(each.seconds, samples[_NOW].seconds)
    rows.append([name, *output.time_columns(each), output.ratio_text(over)])
  return rows


def results(
  limits: BlockLimits, found: Mapping[str, Mapping[str, Samples]]
) -> results_writer.Results:
  """Says what was found."""
  shown = ", ".join(
    f"{name} {value}" for name, value in dataclasses.asdict(limits).items()
  )
  return results_writer.Results(
    name=NAME,
    title="Sizes of tiles and steps",
    setup=f"As it is: {shown}",
    notes=["A change that is clearly below 1 is faster; see the module."],
    tables={label: table(samples) for label, samples in found.items()},
    cells=[
      output.cell(label, name, output.time_metrics(each))
      for label, samples in found.items()
      for name, each in samples.items()
    ],
    measurements=output.samples_table(
      {
        (label, name): each
        for label, samples in found.items()
        for name, each in samples.items()
      }
    ),
  )


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = presets.chosen(PRESETS)
  if shared_flags.ROUNDS.value is not None:
    config = dataclasses.replace(config, rounds=shared_flags.ROUNDS.value)
  plain: dict[str, Any] = {
    "experiment": NAME,
    **dataclasses.asdict(config),
  }
  with train_arms.open_run(NAME, plain) as store:
    results_writer.write(store, results(config.limits, measure(config)))


if __name__ == "__main__":
  app.run(main, lambda: presets.values(PRESETS))
