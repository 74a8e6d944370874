"""Times and peak memory of contenders on one attention, shape by shape."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.benchmarks import contenders, memory, timing
from experiments.benchmarks.contenders import Contender, Prepared, Shape
from experiments.benchmarks.timing import Samples
from experiments.common import progress


@dataclasses.dataclass(frozen=True)
class ContendersConfig:
  """A scale of the benchmark.

  Attributes:
    shapes: to time.
    rounds: of timing.
    dtype: of the arrays.
    memory_shapes: to measure the memory of.
    memory_of: the contenders whose memory is measured.
    processes: that measure the memory of a case.
    longest_quadratic: the greatest N at which those that hold N x N arrays are
      measured for memory.
  """

  shapes: tuple[Shape, ...]
  rounds: int
  dtype: str = "float32"
  memory_shapes: tuple[Shape, ...] = ()
  memory_of: tuple[str, ...] = (
    contenders.CAUSAL,
    contenders.MYOPIC,
    contenders.HORIZON,
    contenders.JAX_NN,
  )
  processes: int = 3
  longest_quadratic: int = 4096


@dataclasses.dataclass
class Measurements:
  """What was measured so far.

  Attributes:
    times: by shape and contender.
    temps: bytes of temporary arrays by XLA's account, by shape and contender.
    memory: by shape and contender, what each process of `memory` found.
    notes: who was left out, and why.
  """

  times: dict[Shape, dict[str, Samples]] = dataclasses.field(
    default_factory=dict
  )
  temps: dict[Shape, dict[str, int | None]] = dataclasses.field(
    default_factory=dict
  )
  memory: dict[Shape, dict[str, list[dict[str, Any]]]] = dataclasses.field(
    default_factory=dict
  )
  notes: list[str] = dataclasses.field(default_factory=list)

  @property
  def peaks(self) -> dict[Shape, dict[str, np.ndarray]]:
    """The peaks that are known: bytes by shape, contender and process."""
    return {
      shape: {
        name: np.array(
          [row["peak_bytes"] for row in rows if row["peak_bytes"] is not None],
          np.float64,
        )
        for name, rows in by_name.items()
      }
      for shape, by_name in self.memory.items()
    }


def measure(
  config: ContendersConfig, competing: dict[str, Contender], limit: float
) -> Measurements:
  """Measures memory, then times.

  Args:
    config: what to measure.
    competing: the contenders by name.
    limit: bytes; who is expected to need more is left out, with a note.

  Returns:
    What was found.
  """
  found = Measurements()
  _measure_memory(config, competing, limit, found)
  for shape in config.shapes:
    prepared = _prepare(config, competing, limit, shape, found)
    with progress.count(str(shape), config.rounds, "rounds") as tick:
      found.times[shape] = timing.interleave(
        {name: each.run for name, each in prepared.items()},
        config.rounds,
        tick=tick,
      )
    found.temps[shape] = {
      name: each.temp_bytes for name, each in prepared.items()
    }
  return found


def _measure_memory(
  config: ContendersConfig,
  competing: dict[str, Contender],
  limit: float,
  found: Measurements,
) -> None:
  cases: list[tuple[Shape, str]] = []
  for shape in config.memory_shapes:
    for name in config.memory_of:
      contender = competing[name]
      if (
        contender.bytes_needed(shape) > limit
        or contender.scores
        and shape.length > config.longest_quadratic
      ):
        found.notes.append(
          f"The memory of {name} is not measured at {shape}: it would need"
          f" about {contender.bytes_needed(shape) / 2**30:.2g} GiB."
        )
      else:
        cases.append((shape, name))
  with progress.count("memory", len(cases), "cases") as tick:
    for done, (shape, name) in enumerate(cases, 1):
      found.memory.setdefault(shape, {})[name] = [
        memory.measure(name, shape, config.dtype)
        for _ in range(config.processes)
      ]
      tick(done)


def _prepare(
  config: ContendersConfig,
  competing: dict[str, Contender],
  limit: float,
  shape: Shape,
  found: Measurements,
) -> dict[str, Prepared]:
  """Compiles everyone who can run at a shape, and notes who cannot."""
  ready: dict[str, Prepared] = {}
  for name, contender in competing.items():
    needed = contender.bytes_needed(shape)
    if needed > limit:
      found.notes.append(
        f"{name} is left out at {shape}: it would need about"
        f" {needed / 2**30:.2g} GiB."
      )
      continue
    try:
      prepared = contender.prepare(shape, config.dtype)
      prepared.run()
    except (RuntimeError, ValueError) as error:
      if name in contenders.OURS and not _out_of_memory(error):
        raise
      found.notes.append(
        f"{name} is left out at {shape}: {str(error).splitlines()[0]}"
      )
      continue
    ready[name] = prepared
  return ready


def _out_of_memory(error: Exception) -> bool:
  text = str(error).lower()
  return "resource_exhausted" in text or "out of memory" in text


def setup(config: ContendersConfig, device: str, threads: int) -> str:
  """What was measured, in a line for figure and report."""
  shapes: Sequence[str] = [str(shape) for shape in config.shapes]
  return (
    f"{config.dtype}, {device}, {threads} cores; shapes (batch x N x heads x"
    f" head width) {', '.join(shapes)}; {config.rounds} interleaved rounds"
  )
