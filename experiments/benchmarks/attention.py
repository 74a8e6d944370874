"""Does an attention that blocks gradient cost less than an ordinary one?

    python -m experiments.benchmarks.attention [--preset=smoke|cpu|paper]
        [--out=DIR] [--shapes=1x4096x4x64,...] [--memory_shapes=...]
        [--rounds=15] [--dtype=float32]

Times one attention, forward and backward, compiled: our variants,
`jax.nn.dot_product_attention`, the definition in the form of the published code
and, where it is installed, PyTorch. All take turns in one run. Peak memory is
measured as well, each case in fresh processes. `cpu` takes about 10 minutes on
two cores, most of it for the slow contenders; `paper` needs a GPU. A second run
with the same `--out` measures again. A shape is batch x length x heads x head
width. An empty list, as in `--memory_shapes=`, leaves memory out.
"""

import os

import jax
from absl import flags

from experiments.benchmarks import (
  attention_contenders,
  attention_measures,
  attention_report,
)
from experiments.benchmarks.attention_contenders import parse_shapes
from experiments.benchmarks.attention_measures import AttentionConfig
from experiments.common import (
  app,
  define_flags,
  presets,
  results_writer,
  shared_flags,
  train_arms,
)
from jaxlook import machine

shared_flags.adopt(__name__, "preset", "rounds", "out")

_SHAPES = define_flags.values(
  "shapes", None, "Shapes to time: batch x length x heads x width of a head."
)
_MEMORY_SHAPES = flags.DEFINE_list(
  "memory_shapes", None, "Shapes whose peak memory is measured; empty for none."
)
_DTYPE = flags.DEFINE_enum(
  "dtype", None, attention_contenders.DTYPES, "Type of the arrays."
)

NAME = "benchmarks.attention"

_MEMORY = (
  "1x1024x{heads}x64 1x2048x{heads}x64 1x4096x{heads}x64 1x8192x{heads}x64"
  " 1x16384x{heads}x64"
)

PRESETS = {
  "smoke": AttentionConfig(
    shapes=parse_shapes("2x16x2x8"),
    rounds=2,
    memory_shapes=parse_shapes("1x16x2x8"),
    # Every process takes seconds to start.
    memory_of=(attention_contenders.MYOPIC,),
    processes=1,
  ),
  "cpu": AttentionConfig(
    shapes=parse_shapes("64x32x2x32 512x64x2x64 4x1024x8x64 1x4096x4x64"),
    rounds=15,
    memory_shapes=parse_shapes(_MEMORY.format(heads=2)),
  ),
  "paper": AttentionConfig(
    # The second shape is GPT-2 small's.
    shapes=parse_shapes(
      "8x1024x16x64 8x1024x12x64 8x2048x16x64 4x4096x16x64 2x8192x16x64"
      " 1x16384x16x64"
    ),
    rounds=31,
    dtype="bfloat16",
    memory_shapes=parse_shapes(_MEMORY.format(heads=16)),
    # A GPU's allocator reports the same peak every time.
    processes=1,
  ),
}


def build_config() -> AttentionConfig:
  """The preset with the flags' values."""
  given = {}
  for flag in (_SHAPES, _MEMORY_SHAPES):
    if flag.value is not None:
      with app.blaming(flag.name):
        given[flag.name] = parse_shapes(" ".join(flag.value))
  if given.get(_SHAPES.name) == ():
    raise app.UsageError(_SHAPES.name, "needs at least one shape")
  config = presets.replaced(
    PRESETS, rounds=shared_flags.ROUNDS.value, dtype=_DTYPE.value, **given
  )
  for name, shapes in given.items():
    for shape in shapes:
      machine.check_fits(
        name,
        shape.least_bytes(config.dtype),
        f"attention of {shape}",
        machine.device_bytes(),
      )
  return config


def main() -> None:
  """Checks the flags, then measures and reports."""
  # PyTorch and the processes that measure memory use the same GPU.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  config = build_config()
  competing = attention_contenders.contenders(config.dtype)
  plain = {**config.plain(), "contenders": list(competing)}
  with train_arms.open_run(NAME, {"experiment": NAME, **plain}) as store:
    found = attention_measures.measure(config, competing)
    results = attention_report.results(
      found,
      name=NAME,
      dtype=config.dtype,
      setup=attention_measures.setup(config),
      platform=jax.default_backend(),
    )
    results_writer.write(store, results)


if __name__ == "__main__":
  app.run(main, lambda: presets.values(PRESETS))
