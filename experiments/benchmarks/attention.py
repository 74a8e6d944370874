"""Does an attention that blocks gradient cost less than an ordinary one?

    python -m experiments.benchmarks.attention [--preset=smoke|cpu|paper]
        [--out=DIR] [--shapes=1x4096x4x64,...] [--memory_shapes=...]
        [--rounds=15] [--dtype=float32]

Times one attention, forward and backward, compiled: our variants,
`jax.nn.dot_product_attention`, the definition in the form of the published code
and, where it is installed, PyTorch, all in turns in one run; and its peak
memory, each case in processes of its own. `cpu` takes about 10 minutes on two
cores, most of it for those that are slow; `paper` wants a GPU. A second run
with the same `--out` measures again.

A shape is batch x length x heads x head width. An empty list, as in
`--memory_shapes=`, leaves memory out.
"""

import dataclasses
import os

import jax
from absl import flags

from experiments.benchmarks import (
  attention_report,
  contenders,
  measuring,
  memory,
)
from experiments.benchmarks.contenders import Shape, parse_shape
from experiments.benchmarks.measuring import ContendersConfig
from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  train_arms,
)

shared_flags.adopt(__name__, "preset", "rounds", "out")

_SHAPES = flags.DEFINE_list(
  "shapes", None, "Shapes to time: batch x length x heads x width of a head."
)
_MEMORY_SHAPES = flags.DEFINE_list(
  "memory_shapes", None, "Shapes whose peak memory is measured; empty for none."
)
_DTYPE = flags.DEFINE_enum(
  "dtype",
  None,
  contenders.DTYPES,
  "Type of the arrays.",
)


NAME = "benchmarks.attention"

_LENGTHS = (1024, 2048, 4096, 8192, 16384)


def _shapes(texts: str) -> tuple[Shape, ...]:
  return tuple(map(parse_shape, texts.split()))


PRESETS = {
  "smoke": ContendersConfig(
    shapes=_shapes("2x16x2x8"),
    rounds=2,
    memory_shapes=_shapes("1x16x2x8"),
    memory_of=(contenders.MYOPIC,),
    processes=1,
  ),
  "cpu": ContendersConfig(
    shapes=_shapes("64x32x2x32 512x64x2x64 4x1024x8x64 1x4096x4x64"),
    rounds=15,
    memory_shapes=tuple(Shape(1, length, 2, 64) for length in _LENGTHS),
  ),
  "paper": ContendersConfig(
    # The second is that of GPT-2 small.
    shapes=_shapes(
      "8x1024x16x64 8x1024x12x64 8x2048x16x64 4x4096x16x64 2x8192x16x64"
      " 1x16384x16x64"
    ),
    rounds=31,
    dtype="bfloat16",
    memory_shapes=tuple(Shape(1, length, 16, 64) for length in _LENGTHS),
    processes=1,
  ),
}


def build_config() -> ContendersConfig:
  """The preset with the flags' values."""
  given = {}
  for flag in (_SHAPES, _MEMORY_SHAPES):
    if flag.value is not None:
      with app.blaming(flag.name):
        shapes = tuple(dict.fromkeys(map(parse_shape, flag.value)))
        if not shapes and flag is _SHAPES:
          raise ValueError("needs at least one shape")
      given[flag.name] = shapes
  for flag in (shared_flags.ROUNDS, _DTYPE):
    if flag.value is not None:
      given[flag.name] = flag.value
  return dataclasses.replace(presets.chosen(PRESETS), **given)


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = build_config()
  # PyTorch and the processes that measure memory use the same GPU.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  competing = contenders.contenders(config.dtype)
  plain = dataclasses.asdict(config) | {
    "shapes": [str(shape) for shape in config.shapes],
    "memory_shapes": [str(shape) for shape in config.memory_shapes],
    "contenders": list(competing),
  }
  with train_arms.open_run(NAME, {"experiment": NAME, **plain}) as store:
    found = measuring.measure(config, competing, memory.limit())
    results_writer.write(
      store,
      attention_report.results(
        store,
        found,
        NAME,
        config.dtype,
        measuring.setup(
          config, jax.devices()[0].device_kind, contenders.cores()
        ),
        jax.default_backend(),
      ),
    )


if __name__ == "__main__":
  app.run(main, lambda: presets.values(PRESETS))
