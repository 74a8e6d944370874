"""Shares compiled programs between all test processes, and compiles quickly.

Most test time is compile time. Binaries that tests start, and the workers of
pytest-xdist, use the same cache folder. It is new in every run, unless the
environment names one. All of them compile for the CPU with fast settings.
"""

import importlib.metadata
import os
import shutil
import tempfile

import pytest
from absl import flags

_FOLDER = "JAX_COMPILATION_CACHE_DIR"
_PLAIN = "JAX_DISABLE_MOST_OPTIMIZATIONS"
_created: list[str] = []

# Older kernels, in one module per program, halve the compile time. XLA ends a
# process if a flag is unknown, so flags depend on the version of jaxlib. Other
# versions use the defaults.
_QUICK = {
  "0.10": (
    "--xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
  ),
}


def pytest_configure(config: pytest.Config) -> None:
  """Sets the environment before any test imports JAX."""
  del config
  # Tests call binaries in this process with flags at their defaults.
  flags.FLAGS.mark_as_parsed()
  if _FOLDER not in os.environ:
    _created.append(tempfile.mkdtemp(prefix="jaxlook-tests-"))
    os.environ[_FOLDER] = _created[0]
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
  # If this is set, tests use the compiler's default settings; see
  # tests/fixtures/base.py.
  if _PLAIN not in os.environ:
    version = importlib.metadata.version("jaxlib").split(".")
    quick = _QUICK.get(".".join(version[:2]), "")
    # The user's flags come last, because the last one counts.
    xla_flags = f"{quick} {os.environ.get('XLA_FLAGS', '')}"
    # XLA would read a blank as the name of a file.
    os.environ["XLA_FLAGS"] = xla_flags.strip()
    # Binaries that tests start read this variable.
    os.environ[_PLAIN] = "1"


def pytest_unconfigure(config: pytest.Config) -> None:
  """Removes the folder in the process that created it."""
  del config
  for folder in _created:
    shutil.rmtree(folder, ignore_errors=True)
