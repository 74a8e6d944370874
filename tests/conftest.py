"""All test processes share what they compile: most of the time goes there.

Binaries that tests start, and the workers of pytest-xdist, read the same
folder, which is new in every run unless the environment names one.
"""

import os
import shutil
import tempfile

import pytest

_FOLDER = "JAX_COMPILATION_CACHE_DIR"
_made: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
  """Sets what JAX reads when it is imported, before any test imports it."""
  del config
  if _FOLDER not in os.environ:
    _made.append(tempfile.mkdtemp(prefix="jaxlook-tests-"))
    os.environ[_FOLDER] = _made[0]
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def pytest_unconfigure(config: pytest.Config) -> None:
  """Removes the folder; workers found it made, so they leave it."""
  del config
  for folder in _made:
    shutil.rmtree(folder, ignore_errors=True)
