"""Times and peak memory of contenders on one attention, shape by shape."""

import dataclasses
from typing import Any

import numpy as np

from experiments.benchmarks import (
  attention_contenders,
  attention_peak,
  machine,
  timing,
)
from experiments.benchmarks.attention_contenders import (
  AttentionShape,
  Contender,
  Prepared,
)
from experiments.benchmarks.timing import Samples
from experiments.common import progress

_FREE_SHARE = 0.6
"""Share of the free memory that a contender may be expected to need."""


@dataclasses.dataclass(frozen=True)
class AttentionConfig:
  """A scale of the attention benchmark.

  Attributes:
    shapes: the shapes that are timed.
    rounds: of timing.
    dtype: of the arrays.
    memory_shapes: the shapes whose peak memory is measured.
    memory_of: the contenders whose peak memory is measured.
    processes: how many processes measure a contender at a shape.
    longest_quadratic: the greatest N at which the memory of contenders that
      hold N x N arrays is measured.
  """

  shapes: tuple[AttentionShape, ...]
  rounds: int
  dtype: str = "float32"
  memory_shapes: tuple[AttentionShape, ...] = ()
  memory_of: tuple[str, ...] = (
    attention_contenders.CAUSAL,
    attention_contenders.MYOPIC,
    attention_contenders.HORIZON,
    attention_contenders.JAX_NN,
  )
  processes: int = 3
  longest_quadratic: int = 4096

  def plain(self) -> dict[str, Any]:
    """The config as plain data, with shapes as the flags take them."""
    return dataclasses.asdict(self) | {
      "shapes": [str(shape) for shape in self.shapes],
      "memory_shapes": [str(shape) for shape in self.memory_shapes],
    }


@dataclasses.dataclass
class AttentionMeasures:
  """What was measured so far.

  Attributes:
    times: by shape and contender.
    temps: by shape and contender, the bytes of temporary arrays that XLA
      reports.
    memory: by shape and contender, the results of the processes, as
      `attention_peak.measure` returns them.
    notes: sentences that say which contenders were left out, and why.
  """

  times: dict[AttentionShape, dict[str, Samples]] = dataclasses.field(
    default_factory=dict
  )
  temps: dict[AttentionShape, dict[str, int | None]] = dataclasses.field(
    default_factory=dict
  )
  memory: dict[AttentionShape, dict[str, list[dict[str, Any]]]] = (
    dataclasses.field(default_factory=dict)
  )
  notes: list[str] = dataclasses.field(default_factory=list)

  @property
  def peaks(self) -> dict[AttentionShape, dict[str, np.ndarray]]:
    """Known peaks, bytes, one a process, by shape and contender."""
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
  config: AttentionConfig,
  competing: dict[str, Contender],
  limit: float | None = None,
) -> AttentionMeasures:
  """Measures memory, then times.

  Args:
    config: what to measure.
    competing: the contenders by name.
    limit: bytes; a contender that is expected to need more is left out, with a
      note. By default a share of the free memory.

  Returns:
    Times, memory and notes.
  """
  if limit is None:
    limit = machine.free_bytes(_FREE_SHARE)
  found = AttentionMeasures()
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
  config: AttentionConfig,
  competing: dict[str, Contender],
  limit: float,
  found: AttentionMeasures,
) -> None:
  """Measures peaks, and notes which contenders are left out."""
  cases: list[tuple[AttentionShape, str]] = []
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
        attention_peak.measure(name, shape, config.dtype)
        for _ in range(config.processes)
      ]
      tick(done)


def _prepare(
  config: AttentionConfig,
  competing: dict[str, Contender],
  limit: float,
  shape: AttentionShape,
  found: AttentionMeasures,
) -> dict[str, Prepared]:
  """Compiles the contenders that can run at a shape; notes which cannot."""
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
      if name in attention_contenders.OURS and not _out_of_memory(error):
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


def setup(config: AttentionConfig) -> str:
  """What was measured, in a line for figure and report."""
  return (
    f"{config.dtype}, {machine.description()}; shapes (batch x N x heads x head"
    f" width) {', '.join(map(str, config.shapes))}; {config.rounds} interleaved"
    " rounds"
  )
