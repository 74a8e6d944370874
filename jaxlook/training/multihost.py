"""Processes that train together, each with its own devices.

Every process runs the same program. JAX's own runtime joins them: after `join`
one mesh spans the devices of all, and a step is one program in all of them.
The process of index 0 leads: it alone writes, and what only one may do is up
to it. Before `join`, and after `leave`, a process is alone, and everything here
does what it does in one process.
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

# How long a process may be silent until the others end. The runtime sends its
# signs of life from a thread of its own, so compiling does not delay them.
HEARTBEAT_SECONDS = 30
# How long processes wait for each other to join, as their nodes boot.
_JOIN_SECONDS = 300
# How long a process waits for the others to leave, which all do at once.
_LEAVE_SECONDS = 30
# Bytes of a refusal that are told to the others.
_TOLD = 1000


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a process stands among those that it joins; detected by default.

  Attributes:
    coordinator: host and port at which process 0 is to be found.
    process: the index of this process.
    processes: how many there are.

  Raises:
    SettingError: there is no process of that index.
  """

  coordinator: str | None = None
  process: int | None = None
  processes: int | None = None

  def __post_init__(self):
    """Refuses an index that is out of range."""
    if self.processes is not None and self.process is not None:
      if self.process >= self.processes:
        raise SettingError(
          "distributed",
          f"must count processes from 0 to {self.processes - 1}, not have"
          f" process {self.process}",
        )


def parse_place(text: str) -> Place:
  """Reads a place's flag form.

  Args:
    text: `auto`, or coordinator, process and processes, as
      `10.0.0.1:1234,0/2`.

  Returns:
    The place.

  Raises:
    SettingError: it is no such text.
  """
  if text == "auto":
    return Place()
  found = re.fullmatch(r"([^,\s]+:\d{1,5}),(\d+)/(\d+)", text)
  if found is None:
    raise SettingError(
      "distributed",
      "must be auto or HOST:PORT,PROCESS/PROCESSES, like"
      f" 10.0.0.1:1234,0/2, not {text!r}",
    )
  return Place(found[1], int(found[2]), int(found[3]))


def join(place: Place) -> None:
  """Joins the others; to be called before anything touches a device.

  Args:
    place: where this process stands.

  Raises:
    SettingError: the place cannot be detected, or the port is in use. Where
      the others do not appear in time, the runtime ends the process.
  """
  detected = place.coordinator is None
  if place.process == 0 and place.coordinator is not None:
    _refuse_taken(int(place.coordinator.rsplit(":", 1)[1]))
  # The runtime's own way with SIGTERM; `max_over_processes` is what agrees on
  # stopping here.
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
      "finds no cluster here that JAX knows, such as SLURM's or Open MPI's;"
      " instead of auto, give HOST:PORT,PROCESS/PROCESSES",
    ) from error


def _refuse_taken(port: int) -> None:
  """Refuses a port where process 0 cannot listen: the runtime crashes."""
  try:
    socket.create_server(("", port)).close()
  except (OSError, OverflowError) as error:
    raise SettingError(
      "distributed", f"cannot use port {port}: it is already in use"
    ) from error


def joined() -> bool:
  """Whether this process trains together with others."""
  return jax.distributed.is_initialized()


def leads() -> bool:
  """Whether this is the process that writes; so is one that is alone."""
  return not joined() or jax.process_index() == 0


def leave() -> None:
  """Parts from the others, which must do the same; then each is alone."""
  jax.distributed.shutdown()


def lost(error: BaseException) -> bool:
  """Whether an error says that another process is gone."""
  return joined() and bool(
    re.search(
      r"Gloo \w+ failed|NCCL|coordination.?service|heartbeat",
      str(error),
      re.IGNORECASE,
    )
  )


def devices() -> list[Any]:
  """The devices of all processes, those of the first one first."""
  return jax.devices() if joined() else jax.local_devices()


def max_over_processes(value: int) -> int:
  """The largest of the numbers that the processes call this with."""
  if not joined():
    return int(value)
  return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def wait() -> None:
  """Returns when all processes have called this."""
  max_over_processes(0)


def leader_first(lead: Callable[[], _T], follow: Callable[[], _T]) -> _T:
  """Does something in process 0 first, and then in the others.

  Args:
    lead: what process 0 does.
    follow: what the others do when that is done.

  Returns:
    What the process's own function returns.

  Raises:
    ValueError: the function refuses; what process 0 is refused, all are.
  """
  if not joined():
    return lead()
  if not leads():
    if refusal := _broadcast_text():
      raise ValueError(refusal)
    return follow()
  try:
    value = lead()
  except ValueError as error:
    _broadcast_text(str(error))
    raise
  _broadcast_text()
  return value


def _broadcast_text(text: str = "") -> str:
  """What process 0 calls this with."""
  told = np.zeros(_TOLD, np.uint8)
  words = text.encode()[:_TOLD]
  told[: len(words)] = np.frombuffer(words, np.uint8)
  told = np.asarray(multihost_utils.broadcast_one_to_all(told))
  return told.tobytes().rstrip(b"\0").decode(errors="replace")


def put(tree: Any, shardings: Any) -> Any:
  """Moves arrays that every process has whole to the devices of all.

  Args:
    tree: arrays, equal in all processes; or spread as they shall be already.
    shardings: a sharding for each, or for each subtree.

  Returns:
    The tree, spread.
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
