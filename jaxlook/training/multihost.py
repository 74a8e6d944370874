"""Processes that train together, each with its own devices.

Every process runs the same program. After `join`, JAX's runtime connects them:
one mesh spans the devices of all processes, and a step is one program in all of
them. Process 0 is the leader: only the leader writes files. Before `join` and
after `leave` a process is alone, and all functions here work as in a single
process.
"""

import dataclasses
import re
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxlook.errors import SettingError

_T = TypeVar("_T")

# The others end if a process sends no heartbeat for this long. The runtime
# sends heartbeats from a separate thread, so compiling does not delay them.
HEARTBEAT_SECONDS = 30
# Processes wait this long for each other to join, because nodes boot slowly.
_JOIN_SECONDS = 300
# Processes wait this long for each other to leave; all leave at the same time.
_LEAVE_SECONDS = 30
# Bytes of an error message that are sent to the other processes.
_MESSAGE_BYTES = 1000


@dataclasses.dataclass(frozen=True)
class Place:
  """A process's index and the coordinator's address; detected by default.

  Attributes:
    coordinator: host and port of process 0.
    process: index of this process.
    processes: number of processes.

  Raises:
    SettingError: the index is out of range.
  """

  coordinator: str | None = None
  process: int | None = None
  processes: int | None = None

  def __post_init__(self):
    """Checks the index."""
    if self.processes is not None and self.process is not None:
      if self.processes < 1:
        raise SettingError(
          "distributed", f"must have at least 1 process, not {self.processes}"
        )
      if self.process >= self.processes:
        raise SettingError(
          "distributed",
          f"must count processes from 0 to {self.processes - 1}, not have"
          f" process {self.process}",
        )


def parse_place(text: str) -> Place:
  """Reads a place's flag form.

  Args:
    text: `auto`, or coordinator, process and number of processes, such as
      `10.0.0.1:1234,0/2`.

  Returns:
    The place.

  Raises:
    SettingError: the text has another form.
  """
  if text == "auto":
    return Place()
  match = re.fullmatch(r"([^,\s]+:[0-9]{1,5}),([0-9]{1,9})/([0-9]{1,9})", text)
  if match is None:
    raise SettingError(
      "distributed",
      "must be auto or HOST:PORT,PROCESS/PROCESSES, like"
      f" 10.0.0.1:1234,0/2, not {text!r}",
    )
  return Place(match[1], int(match[2]), int(match[3]))


def join(place: Place) -> None:
  """Joins the other processes; call it before any device is used.

  If the others do not join in time, the runtime ends this process.

  Args:
    place: this process's index and the coordinator's address.

  Raises:
    SettingError: the place cannot be detected, or the port is in use.
  """
  detected = place.coordinator is None
  if place.process == 0 and place.coordinator is not None:
    _check_port(int(place.coordinator.rsplit(":", 1)[1]))
  # Turns off the runtime's handling of SIGTERM. Processes agree on stopping by
  # `max_over_processes` instead.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
      place.coordinator,
      place.processes,
      place.process,
      cluster_detection_method=None if detected else "deactivate",
      initialization_timeout=_JOIN_SECONDS,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=_LEAVE_SECONDS,
    )
  except ValueError as error:
    if not detected:
      raise
    raise SettingError(
      "distributed",
      "must be HOST:PORT,PROCESS/PROCESSES, because auto detects no cluster"
      " that JAX supports, such as SLURM or Open MPI",
    ) from error


def _check_port(port: int) -> None:
  """Raises an error if process 0 cannot listen; the runtime would crash."""
  if not 0 < port < 2**16:
    raise SettingError(
      "distributed", f"must have a port in 1..{2**16 - 1}, not {port}"
    )
  try:
    socket.create_server(("", port)).close()
  except OSError as error:
    raise SettingError(
      "distributed", f"cannot use port {port}: it is already in use"
    ) from error


def joined() -> bool:
  """Returns whether this process trains together with others."""
  return jax.distributed.is_initialized()


def is_leader() -> bool:
  """Returns whether this process writes files: process 0, or a single one."""
  return not joined() or jax.process_index() == 0


def leave() -> None:
  """Leaves the other processes, which must leave, too."""
  jax.distributed.shutdown()


def is_lost_process(error: BaseException) -> bool:
  """Returns whether an error means that another process has ended."""
  return joined() and bool(
    re.search(
      r"Gloo \w+ failed|NCCL|coordination.?service|heartbeat",
      str(error),
      re.IGNORECASE,
    )
  )


def devices() -> list[Any]:
  """Returns the devices of all processes, in the order of processes."""
  return jax.devices() if joined() else jax.local_devices()


def max_over_processes(value: int) -> int:
  """Returns the largest of all processes' values."""
  if not joined():
    return int(value)
  return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def wait() -> None:
  """Waits until all processes have called this."""
  max_over_processes(0)


def leader_first(lead: Callable[[], _T], follow: Callable[[], _T]) -> _T:
  """Calls a function in process 0, and afterwards one in each other process.

  Args:
    lead: the function of process 0.
    follow: the function of the other processes.

  Returns:
    The result of this process's function.

  Raises:
    ValueError: the function raises it; an error of process 0 is raised in all.
  """
  if not joined():
    return lead()
  if not is_leader():
    if error_text := _broadcast_text():
      raise ValueError(error_text)
    return follow()
  try:
    value = lead()
  except ValueError as error:
    _broadcast_text(str(error))
    raise
  _broadcast_text()
  return value


def _broadcast_text(text: str = "") -> str:
  """Returns process 0's text in all processes."""
  message = np.zeros(_MESSAGE_BYTES, np.uint8)
  encoded = text.encode()[:_MESSAGE_BYTES]
  message[: len(encoded)] = np.frombuffer(encoded, np.uint8)
  message = np.asarray(multihost_utils.broadcast_one_to_all(message))
  return message.tobytes().rstrip(b"\0").decode(errors="replace")


def put(tree: Any, shardings: Any) -> Any:
  """Spreads arrays over the devices of all processes.

  Args:
    tree: arrays that are equal in all processes, or are spread already.
    shardings: a sharding for each array or subtree.

  Returns:
    The spread arrays.
  """
  if not joined():
    return jax.device_put(tree, shardings)

  def spread(x: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    if isinstance(x, jax.Array):
      if not x.is_fully_addressable:
        return jax.device_put(x, sharding)
      if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda at: x[at])

  return jax.tree.map(
    lambda sharding, part: jax.tree.map(lambda x: spread(x, sharding), part),
    shardings,
    tree,
  )


def get(x: jax.Array) -> np.ndarray:
  """Reads an array that may be spread over the devices of all processes."""
  if x.is_fully_addressable or x.is_fully_replicated:
    return np.asarray(x)
  return np.asarray(multihost_utils.process_allgather(x, tiled=True))
