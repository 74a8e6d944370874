"""How much memory does a training step take, on paper and in fact?

    python -m experiments.benchmarks.step_memory [--preset=smoke|cpu|paper]
        [--out=DIR] [--length=8192]

For three sizes of a model of text, and for a long window, bytes of one step of
one seed: what is on paper (parameters, gradient, the optimiser's state and the
activations that the backward pass keeps), what the compiler says, and the most
that the step held in a process of its own. Taken plainly, with every pattern of
attention and all logits; by the library's own attention; with the logits of few
tokens at a time; and with blocks computed again. A step that needs more than
the memory that is free is compiled and not taken, and the report says so.
Random tokens; causal, float32. `cpu` takes about 4 minutes on two cores.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
import pyarrow as pa

from experiments.benchmarks import contenders, memory, output
from experiments.benchmarks.step_peak import Case, Step, StepShape, Way, measure
from experiments.common import (
  app,
  presets,
  progress,
  results_writer,
  shared_flags,
  train_arms,
)
from jaxlook import reporting
from jaxlook.reporting import figures

shared_flags.adopt(__name__, "preset", "length", "out")

NAME = "benchmarks.step_memory"
_FIGURE = "memory.png"
_GIB = 2**30
# A machine does other things as well.
_SHARE = 0.9
_TOKENS = 512

PLAIN = Way("plain", "reference")
OWN = Way("own attention")
FEW_LOGITS = Way("and few logits", "auto", _TOKENS)
AGAIN = Way("and blocks again", "auto", _TOKENS, remat=True)
WAYS = (PLAIN, OWN, FEW_LOGITS, AGAIN)
"""How a step is taken, each way saving more than the one before."""


@dataclasses.dataclass(frozen=True)
class StepMemoryConfig:
  """A scale of the benchmark.

  Attributes:
    sizes: models of a common window.
    long: a model of a long one.
    ways: how steps are taken.
  """

  sizes: tuple[StepShape, ...]
  long: StepShape
  ways: tuple[Way, ...] = WAYS


PRESETS = {
  # Every step starts a process.
  "smoke": StepMemoryConfig(
    (StepShape(1, 8, 2, 8, 11, 2),), StepShape(1, 8, 2, 64, 11, 1), (AGAIN,)
  ),
  "cpu": StepMemoryConfig(
    tuple(
      StepShape(layers, width, width // 32, 256, 4096, 16)
      for layers, width in ((2, 64), (4, 128), (6, 256))
    ),
    StepShape(6, 256, 8, 8192, 4096, 1),
  ),
  "paper": StepMemoryConfig(
    tuple(
      StepShape(layers, width, width // 64, 1024, 50_257, 8)
      for layers, width in ((6, 512), (12, 768), (24, 1024))
    ),
    StepShape(12, 768, 12, 8192, 50_257, 1),
  ),
}

StepPeaks = dict[tuple[StepShape, str], Step | str]


def build_config() -> StepMemoryConfig:
  """The preset with the flag's value."""
  config = presets.chosen(PRESETS)
  if shared_flags.LENGTH.value is not None:
    if shared_flags.LENGTH.value < 1:
      raise app.UsageError(
        "length", f"must be at least 1, not {shared_flags.LENGTH.value}"
      )
    long = dataclasses.replace(config.long, length=shared_flags.LENGTH.value)
    config = dataclasses.replace(config, long=long)
  return config


def measure_all(config: StepMemoryConfig, most: float) -> StepPeaks:
  """Every size in every way, each in a process of its own."""
  cases = [
    (size, way) for size in (*config.sizes, config.long) for way in config.ways
  ]
  found: StepPeaks = {}
  with progress.count("memory", len(cases), "steps") as tick:
    for done, (size, way) in enumerate(cases, start=1):
      found[size, way.name] = measure(Case(way, size), most)
      tick(done)
  return found


def table(found: StepPeaks) -> reporting.Rows:
  """One row a size and way."""
  rows = [
    ["model", "way", "parameters", "gradient", "optimiser", "activations"]
    + ["on paper", "compiled", "held at most", "over paper", "how"]
  ]
  for (size, way), step in found.items():
    if isinstance(step, str):
      rows.append([str(size), way, *["-"] * 8, step])
      continue
    over = "-" if step.peak is None else f"{step.peak / step.paper:.2f}"
    columns = (step.params, step.params, step.optimizer, step.activations)
    columns += (step.paper, step.compiled, step.peak)
    shown = ["-" if x is None else f"{x / 2**20:.4g}" for x in columns]
    rows.append([str(size), way, *shown, over, step.method])
  return rows


def main() -> None:
  """Checks the flags, then measures and reports."""
  config = build_config()
  described = {"experiment": NAME, **dataclasses.asdict(config)}
  with train_arms.open_run(NAME, described) as store:
    most = memory.limit(_SHARE)
    found = measure_all(config, most)
    setup = (
      f"causal, float32, one seed, {jax.devices()[0].device_kind},"
      f" {contenders.cores()} cores, {most / _GIB:.3g} GiB free"
    )
    sizes = [*config.sizes, config.long]
    taken = {key: step for key, step in found.items() if isinstance(step, Step)}
    figures.panels_figure(
      store.figures / _FIGURE,
      [[_panel(size, taken) for size in sizes]],
      title="Memory of a training step",
      setup=setup,
    )
    results_writer.write(
      store,
      results_writer.Results(
        name=NAME,
        title="Memory of a training step",
        setup=setup,
        notes=[
          "In MiB. On paper: parameters, their gradient, the optimiser's state,"
          " and the activations that differentiation keeps, whatever the"
          " compiler then does. A compiler may keep less (it computes again, or"
          " in place) or need room to work. XLA's compiler for CPUs takes"
          " blocks that are computed again for those that are there, and keeps"
          " them.",
          "Ways: plain (every pattern of attention, all logits); own attention;"
          f" and few logits ({_TOKENS} tokens' at a time); and blocks again"
          " (computed in the backward pass). A step that needs more than the"
          f" free memory, {most / _GIB:.3g} GiB, was not taken. Numbers of one"
          " process each.",
        ],
        tables={
          "Bytes of a step, MiB": table(found),
        },
        figures={_FIGURE: f"{setup}. One process each."},
        cells=[
          output.cell(
            str(size),
            way,
            {
              name: float(value)
              for name, value in dataclasses.asdict(step).items()
              if isinstance(value, int)
            },
          )
          for (size, way), step in taken.items()
        ],
        measurements=pa.Table.from_pylist(
          [
            {"setting": str(size), "way": way} | dataclasses.asdict(step)
            for (size, way), step in taken.items()
          ]
        ),
      ),
    )


def _panel(
  size: StepShape, taken: dict[tuple[StepShape, str], Step]
) -> figures.Curves:
  """What the ways of one size need."""
  ways = [way for at, way in taken if at == size]
  steps = [taken[size, way] for way in ways]

  def gib(values: Sequence[int | None]) -> np.ndarray:
    return np.array([[np.nan if x is None else x / _GIB] for x in values])

  return figures.Curves(
    str(size),
    [way.replace(" ", "\n", 1) for way in ways],
    "",
    "GiB",
    {
      "on paper": gib([step.paper for step in steps]),
      "compiled": gib([step.compiled for step in steps]),
      "held at most": gib([step.peak for step in steps]),
    },
    scale="steps",
  )


if __name__ == "__main__":
  app.run(main, lambda: {"length": presets.chosen(PRESETS).long.length})
