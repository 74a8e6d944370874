"""The memory of this machine, to refuse what it can never hold.

Only totals count: whether other programs leave enough is for the system to say.
"""

import os
from pathlib import Path

import jax

from jaxlook.errors import SettingError

_GIB = 2**30
# Limits of containers: of cgroups version 2, and of version 1.
_LIMITS = (
  Path("/sys/fs/cgroup/memory.max"),
  Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def host_bytes() -> int:
  """Returns the bytes of memory that this process could ever have."""
  found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
  for file in _LIMITS:
    try:
      found.append(int(file.read_text()))
    except (OSError, ValueError):
      continue  # There is no such limit.
  return min(found)


def device_bytes() -> int | None:
  """Returns the bytes of all accelerators; None if the host's memory is used.

  With several processes, all are taken to have as much as this one.
  """
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  limits = [each["bytes_limit"] for each in stats if "bytes_limit" in each]
  return sum(limits) * jax.process_count() if limits else None


def check_fits(
  field: str,
  needed: int,
  what: str,
  limit: int | None = None,
  room: int = 1,
) -> None:
  """Refuses what needs more memory than there is.

  Args:
    field: the setting that makes it large.
    needed: bytes that it needs at least.
    what: what needs them, such as "the training".
    limit: bytes that there are; by default those of the host.
    room: by how much more than there is it may need.

  Raises:
    SettingError: there are fewer.
  """
  limit = host_bytes() if limit is None else limit
  if needed > room * limit:
    raise SettingError(
      field,
      f"is too large: {what} takes at least {_shown(needed)} of memory, and"
      f" this machine has {_shown(limit)}",
    )


def _shown(count: int) -> str:
  # An integer may be too large for a float.
  return f"{min(count, 10**12 * _GIB) / _GIB:.3g} GiB"
