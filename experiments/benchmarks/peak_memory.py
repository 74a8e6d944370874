"""Peak memory of one call, measured in a fresh process.

On a CPU the peak is that of the resident set during the first call, above its
size just before. At that point the inputs exist and the program is compiled, so
outputs and gradients count and inputs do not. On a GPU the allocator reports
the peak.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

MIB, GIB = 2**20, 2**30
_ROOT = Path(__file__).parents[2]
_TIMEOUT_SECONDS = 900


def run_module(
  module: str, arguments: Sequence[str]
) -> tuple[dict[str, Any] | None, str]:
  """Runs a module in a fresh process, on the same kind of device.

  Args:
    module: prints one JSON object on its last line.
    arguments: of its command line.

  Returns:
    What it printed, or None and why it printed nothing.
  """
  environment = dict(os.environ)
  if jax.config.read("jax_disable_most_optimizations"):
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
  if jax.default_backend() == "cpu":
    environment["JAX_PLATFORMS"] = "cpu"
  try:
    done = subprocess.run(
      [sys.executable, "-m", module, *arguments],
      cwd=_ROOT,
      env=environment,
      capture_output=True,
      text=True,
      timeout=_TIMEOUT_SECONDS,
      check=False,
    )
  except subprocess.TimeoutExpired:
    return None, f"stopped after {_TIMEOUT_SECONDS} s"
  if done.returncode:
    last = done.stderr.strip().splitlines()[-1:] or ["no error message"]
    return None, f"exit status {done.returncode}: {last[0]}"
  return json.loads(done.stdout.strip().splitlines()[-1]), ""


def peak_bytes(run: Callable[[], None]) -> tuple[int | None, str]:
  """Bytes that a call of JAX takes above what is allocated before it.

  Args:
    run: makes the call and waits; compiled, in a fresh process.

  Returns:
    The bytes, None if unknown, and how they were measured or why not.
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
    method += ", reached while compiling: an upper bound"
  return peak - before["bytes_in_use"], method


def _resident_peak(run: Callable[[], None]) -> tuple[int | None, str]:
  _return_freed_memory()
  before = _resident_bytes()
  if before is None:
    run()
    return None, "none: this system has no /proc/self/status"
  try:
    # Compiling takes memory, too; this resets the peak.
    Path("/proc/self/clear_refs").write_text("5")
    method = "VmHWM, reset before the call"
  except OSError:
    method = "VmHWM, not reset before the call: an upper bound"
  run()
  after = _resident_bytes() or before
  return after["VmHWM"] - before["VmRSS"], method


def _resident_bytes() -> dict[str, int] | None:
  """VmRSS and VmHWM from /proc/self/status; None where there is no such file.

  VmRSS is the size of the resident set, VmHWM its peak.
  """
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


def _return_freed_memory() -> None:
  """Returns freed memory to the system; the call could reuse it uncounted."""
  try:
    ctypes.CDLL(None).malloc_trim(0)
  except (AttributeError, OSError):
    pass  # Without glibc the peak may come out too low.
