"""Versions, devices and commit of a run."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

import jaxlook
from jaxlook.keys import IMPLEMENTATION


def environment() -> dict[str, Any]:
  """Returns the environment of this process, as environment.json holds it.

  Cannot raise: a value that cannot be determined is None, or "unavailable" for
  an accelerator that does not start.

  Returns:
    Versions of jaxlook, Python and the packages that results depend on; os;
    platform ("cpu", "gpu"), device (its kind) and device_count; cpu_count;
    prng, the random number generator, and prng_partitionable, its setting; and
    commit, of the checkout that holds this code. It ends in "+dirty" where
    files of the checkout differ, and is None outside a checkout.
  """
  names = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "chex",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "grain",
    "tokenizers",
  )
  try:
    devices = jax.devices()
    kind, backend = devices[0].device_kind, devices[0].platform
  except RuntimeError:
    devices, kind, backend = [], "unavailable", "unavailable"
  return {
    "jaxlook": jaxlook.__version__,
    **{name: _version(name) for name in names},
    "python": platform.python_version(),
    "os": platform.platform(),
    "platform": backend,
    "device": kind,
    "device_count": len(devices),
    "cpu_count": os.cpu_count(),
    "prng": IMPLEMENTATION,
    "prng_partitionable": getattr(
      jax.config, "jax_threefry_partitionable", True
    ),
    "commit": _commit(Path(__file__).resolve()),
  }


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _commit(file: Path) -> str | None:
  """Returns the commit of the checkout that tracks this file, or None."""

  def git(*arguments: str) -> str:
    # A hook's GIT_DIR would point to another checkout. Without optional locks,
    # since a read must not disturb other git commands there.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return subprocess.run(
      ["git", "--no-optional-locks", *arguments],
      cwd=file.parent,
      env=clean,
      check=True,
      capture_output=True,
      text=True,
      timeout=10,
    ).stdout.strip()

  try:
    # A package installed inside another checkout is not part of that checkout.
    git("ls-files", "--error-unmatch", "--", file.name)
    commit = git("rev-parse", "--verify", "HEAD")
    return f"{commit}+dirty" if git("status", "--porcelain") else commit
  except (OSError, ValueError, subprocess.SubprocessError):
    return None
