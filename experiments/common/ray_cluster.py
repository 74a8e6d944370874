"""Clusters of Ray: the connection, and the resources of a task.

Not a binary: `experiments.common.ray_launcher` runs tasks on the cluster that
this connects to.
"""

import contextlib
import logging
import math
import os
import re
import socket
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.common import app


def parse_resources(text: str) -> dict[str, float]:
  """Reads the resources of one arm from the text of a flag.

  Args:
    text: Ray's resources with their amounts, as `cpu:2,gpu:1` or `TPU:4`.

  Returns:
    Amounts by Ray's names; `CPU` is always included.

  Raises:
    ValueError: the text has another form, or names a resource twice.
  """
  found = {}
  for part in text.split(","):
    match = re.fullmatch(r"([\w.:-]+):([0-9]+(?:\.[0-9]+)?)", part.strip())
    if match is None:
      raise ValueError(f"resources must be like cpu:1,gpu:0.5, not {text!r}")
    name = match.group(1)
    name = name.upper() if name.lower() in ("cpu", "gpu") else name
    amount = float(match.group(2))
    if name in found:
      raise ValueError(f"{text!r} names {name} twice")
    if amount > 1 and amount != math.floor(amount):
      raise ValueError(f"{name}:{amount:g} must be whole, as above 1")
    found[name] = amount
  return {"CPU": 0.0} | found


def task_options(resources: Mapping[str, float]) -> dict[str, Any]:
  """Options of `ray.remote` for tasks with these resources.

  Args:
    resources: as `parse_resources` returns them.

  Returns:
    The resources, and the environment variables that JAX and XLA read.
  """
  environment = {
    name: value
    for name, value in os.environ.items()
    if name.startswith(("JAX_", "XLA_"))
  }
  others = {
    name: amount
    for name, amount in resources.items()
    if name not in ("CPU", "GPU")
  }
  if resources.get("GPU") or any(others.values()):
    # This machine's platform need not be that of nodes with accelerators.
    environment.pop("JAX_PLATFORMS", None)
  else:
    # Without this, all workers of a node would use its accelerators.
    environment.setdefault("JAX_PLATFORMS", "cpu")
  return {
    "num_cpus": resources["CPU"],
    "num_gpus": resources.get("GPU", 0),
    "resources": others,
    "runtime_env": {"env_vars": environment},
  }


@contextlib.contextmanager
def connected(resources: Mapping[str, float]) -> Iterator[None]:
  """Connects to the cluster of `RAY_ADDRESS`, or starts one on this machine.

  Args:
    resources: of one task, as `parse_resources` returns them.

  Yields:
    Nothing. A process that was connected before stays connected. Otherwise
    this disconnects at the end, which also ends a cluster that it started.

  Raises:
    UsageError: Ray is not installed, there is no such cluster, or this machine
      lacks the resources. A cluster of several machines may still add nodes
      that have them.
  """
  try:
    import ray
  except ImportError as error:
    raise app.UsageError(
      "launcher", "needs ray: pip install jaxlook[cluster]"
    ) from error
  address = os.environ.get("RAY_ADDRESS") or "local"
  local = address == "local"
  # A connection from before stays open.
  connects = not ray.is_initialized()
  if connects:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with app.blaming("launcher"):
      _check_answers(address)
      try:
        with warnings.catch_warnings():
          # Ray forks only to start its own programs, which do not use JAX.
          warnings.filterwarnings("ignore", r"os\.fork\(\)", RuntimeWarning)
          ray.init(
            address,
            include_dashboard=False if local else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
          )
      except RuntimeError as error:
        raise ValueError(str(error)) from error
  try:
    least = {name: amount for name, amount in resources.items() if amount}
    if not any(
      all(node["Resources"].get(name, 0) >= least[name] for name in least)
      for node in ray.nodes()
      if node["Alive"]
    ):
      asked = ",".join(f"{name}:{amount:g}" for name, amount in least.items())
      if local:
        raise app.UsageError(
          "launcher_resources", f"this machine does not have {asked}"
        )
      print(f"no node has {asked} now: waiting for one", flush=True)
    yield
  finally:
    if connects:
      ray.shutdown()


def _check_answers(address: str) -> None:
  """Refuses a cluster that does not answer; Ray would retry for minutes."""
  match = re.fullmatch(r"(?:ray://)?(.+):([0-9]+)", address)
  if match:
    try:
      socket.create_connection((match[1], int(match[2])), timeout=10).close()
    except (OSError, OverflowError) as error:
      raise ValueError(
        f"no cluster at RAY_ADDRESS={address}: {error}"
      ) from error
