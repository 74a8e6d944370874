"""Peak memory of one call, in a process of its own.

    python -m experiments.benchmarks.memory CONTENDER SHAPE DTYPE

prints one JSON object for an attention, forward and backward.
`experiments.benchmarks.attention` starts it; there is no need to do so by hand.

The peak is that of the resident set during the first call, above its size just
before, when inputs exist and the program is compiled; outputs and gradients
count. On a GPU it is what the allocator reports.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks import contenders

_ROOT = Path(__file__).parents[2]
_SECONDS = 900
_WARM_UP = contenders.Shape(1, 8, 1, 8)
# Share of the free memory that a contender may be expected to need.
_FREE_SHARE = 0.6


def measure(name: str, shape: contenders.Shape, dtype: str) -> dict[str, Any]:
  """Starts a process that measures.

  Args:
    name: the contender's.
    shape: of the attention.
    dtype: the arrays' dtype.

  Returns:
    peak_bytes and temp_bytes, each None where unknown, and method, which says
    how the peak was had, or why not.
  """
  words = [name, str(shape), dtype]
  found, error = started("experiments.benchmarks.memory", words)
  return found or {"peak_bytes": None, "temp_bytes": None, "method": error}


def started(
  module: str, words: Sequence[str]
) -> tuple[dict[str, Any] | None, str]:
  """Runs a module in a process of its own, on the same kind of device.

  Args:
    module: prints one JSON object on its last line.
    words: its arguments.

  Returns:
    What it printed, or None and why there is nothing.
  """
  environment = dict(os.environ)
  if jax.config.read("jax_disable_most_optimizations"):
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
  if jax.default_backend() == "cpu":
    environment["JAX_PLATFORMS"] = "cpu"
  try:
    done = subprocess.run(
      [sys.executable, "-m", module, *words],
      cwd=_ROOT,
      env=environment,
      capture_output=True,
      text=True,
      timeout=_SECONDS,
      check=False,
    )
  except subprocess.TimeoutExpired:
    return None, f"gave up after {_SECONDS} s"
  if done.returncode:
    said = done.stderr.strip().splitlines()[-1:] or ["without a word"]
    return None, f"ended with {done.returncode}: {said[0]}"
  return json.loads(done.stdout.strip().splitlines()[-1]), ""


def limit(share: float = _FREE_SHARE) -> float:
  """Bytes that a call may be expected to need; infinite if unknown.

  Args:
    share: of the host's free memory, where that is what counts.
  """
  device = jax.devices()[0].memory_stats() or {}
  if "bytes_limit" in device:
    return device["bytes_limit"] - device["bytes_in_use"]
  try:
    with open("/proc/meminfo") as lines:
      found = dict(line.split(":") for line in lines)
  except OSError:
    return float("inf")
  return share * 1024 * int(found["MemAvailable"].split()[0])


def measure_here(
  name: str, shape: contenders.Shape, dtype: str
) -> dict[str, Any]:
  """Measures in this process, which should be fresh; returns as `measure`."""
  contender = contenders.contenders(dtype)[name]
  # Threads and libraries that the first use of all starts are not the call's.
  contender.prepare(_WARM_UP, dtype).run()
  prepared = contender.prepare(shape, dtype)
  gc.collect()
  if name == contenders.TORCH and jax.default_backend() == "gpu":
    peak, method = _torch_peak(prepared), "torch.cuda's peak"
  else:
    peak, method = peak_of(prepared.run)
  return {
    "peak_bytes": peak,
    "temp_bytes": prepared.temp_bytes,
    "method": method,
  }


def _torch_peak(prepared: contenders.Prepared) -> int:
  torch: Any = contenders.torch_module()
  torch.cuda.reset_peak_memory_stats()
  before = torch.cuda.memory_allocated()
  prepared.run()
  return torch.cuda.max_memory_allocated() - before


def peak_of(run: Callable[[], None]) -> tuple[int | None, str]:
  """Bytes that a call of JAX takes above what is there, None if unknown.

  Args:
    run: makes the call and waits; compiled, in a process that is fresh.

  Returns:
    The bytes, and how they were had or why not.
  """
  if jax.devices()[0].memory_stats():
    return _allocator_peak(run)
  return _resident_peak(run)


def _allocator_peak(run: Callable[[], None]) -> tuple[int, str]:
  def statistics() -> dict[str, int]:
    return jax.devices()[0].memory_stats() or {}

  before = statistics()
  run()
  peak = statistics()["peak_bytes_in_use"]
  method = "the allocator's peak"
  if peak == before["peak_bytes_in_use"]:
    method += " since the start, which compiling reached: an upper bound"
  return peak - before["bytes_in_use"], method


def _resident_peak(run: Callable[[], None]) -> tuple[int | None, str]:
  _trim()
  before = _resident()
  if before is None:
    run()
    return None, "none: this system has no /proc/self/status"
  try:
    # Compiling takes memory as well; this forgets that peak.
    Path("/proc/self/clear_refs").write_text("5")
    method = "VmHWM, reset before the call"
  except OSError:
    method = "VmHWM, not reset before the call: an upper bound"
  run()
  after = _resident() or before
  return after["VmHWM"] - before["VmRSS"], method


def _resident() -> dict[str, int] | None:
  """Bytes of the resident set by their names in /proc/self/status, or None."""
  try:
    text = Path("/proc/self/status").read_text()
  except OSError:
    return None
  lines = (line.split() for line in text.splitlines())
  return {
    name.rstrip(":"): 1024 * int(rest[0])
    for name, *rest in lines
    if name in ("VmRSS:", "VmHWM:")
  }


def _trim() -> None:
  """Hands freed memory back, which the call would else take uncounted."""
  try:
    ctypes.CDLL(None).malloc_trim(0)
  except (AttributeError, OSError):
    pass  # Not glibc: there the peak may come out too low.


if __name__ == "__main__":
  print(
    json.dumps(
      measure_here(
        sys.argv[1], contenders.parse_shape(sys.argv[2]), sys.argv[3]
      )
    )
  )
