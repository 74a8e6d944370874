"""What the machine has: processor cores, free memory, PyTorch."""

import importlib
import os
from types import ModuleType

import jax

from jaxlook.numerals import counted


def cores() -> int:
  """Processor cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def description() -> str:
  """Device and cores, for the setup line of a report."""
  return f"{jax.devices()[0].device_kind}, {counted(cores(), 'core')}"


def free_bytes(share: float) -> float:
  """Bytes that a call may be expected to need; infinite if unknown.

  Args:
    share: of the host's free memory that may be used. It applies on a CPU;
      an accelerator's own limit is used in full.
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


def torch_module() -> ModuleType | None:
  """PyTorch, or None where it is not installed."""
  try:
    return importlib.import_module("torch")
  except ImportError:
    return None
