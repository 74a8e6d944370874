"""All test processes share what they compile: most of the time goes there.

Binaries that tests start, and the workers of pytest-xdist, read the same
folder, which is new in every run unless the environment names one. The same
processes compile for the CPU in the way that is quickest to compile.
"""

import importlib.metadata
import os
import shutil
import tempfile

import pytest

_FOLDER = "JAX_COMPILATION_CACHE_DIR"
_PLAIN = "JAX_DISABLE_MOST_OPTIMIZATIONS"
_made: list[str] = []

# Kernels of the older kind, in one module a program: half the time of the
# compiler. XLA ends a process whose flags it does not know, so this is by
# version of jaxlib; others compile as they do by default.
_QUICK = {
  "0.10": (
    "--xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
  ),
}


def pytest_configure(config: pytest.Config) -> None:
  """Sets what JAX reads when it is imported, before any test imports it."""
  del config
  if _FOLDER not in os.environ:
    _made.append(tempfile.mkdtemp(prefix="jaxlook-tests-"))
    os.environ[_FOLDER] = _made[0]
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
  # Who sets this one wants the compiler as users have it; see
  # tests/fixtures/base.py.
  if _PLAIN not in os.environ:
    version = importlib.metadata.version("jaxlib").split(".")
    quick = _QUICK.get(".".join(version[:2]), "")
    # Flags that are set already come last, for the last one counts.
    flags = f"{quick} {os.environ.get('XLA_FLAGS', '')}"
    # XLA takes a blank for the name of a file.
    os.environ["XLA_FLAGS"] = flags.strip()
    # For binaries that tests start.
    os.environ[_PLAIN] = "1"


def pytest_unconfigure(config: pytest.Config) -> None:
  """Removes the folder; workers found it made, so they leave it."""
  del config
  for folder in _made:
    shutil.rmtree(folder, ignore_errors=True)
