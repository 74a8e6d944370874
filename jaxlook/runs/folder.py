"""Files of run folders: the lock, the config, leftovers of killed runs."""

import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxlook.errors import RunFolderError
from jaxlook.runs import io_faults, json_files
from jaxlook.runs.atomic_files import TEMPORARY_SUFFIX

CONFIG = "config.json"
LOCK = ".lock"
# What configs of earlier versions do not have: whatever it is, or with what
# they did.
_LATER = ("identity",)
_OF_LENGTH = ("steps", "keep_steps")
_BEFORE = {
  "optimizer": "adamw",
  "schedule": "cosine",
  "decay_fraction": 0.2,
  "microbatches": 1,
  "first": 1,
  "positions": "learned",
}


class InUse(RunFolderError):  # noqa: N818 - the folder may soon be free.
  """Another process, or another store of this one, holds the folder."""


def lock(root: Path) -> int:
  """Returns a descriptor that holds the folder's lock while it is open.

  Raises:
    InUse: another one holds it.
    OSError: the folder cannot be written.
  """
  with io_faults.named(root / LOCK):
    descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    with io_faults.named(root / LOCK):
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      # Only for the message below, so it need not be written atomically.
      os.ftruncate(descriptor, 0)
      os.write(descriptor, str(os.getpid()).encode())
  except BlockingIOError as error:
    owner = os.read(descriptor, 20).decode(errors="replace")
    os.close(descriptor)
    if owner == str(os.getpid()):
      raise InUse(
        f"{root} is open in this process already; close its store first, or"
        " open it with `with`"
      ) from error
    raise InUse(
      f"{root} is in use by another run (process {owner or 'unknown'}); wait"
      " for it or choose another folder"
    ) from error
  except BaseException:
    os.close(descriptor)
    raise
  return descriptor


def await_lock(root: Path, patience: float) -> int:
  """Returns `lock(root)`, for which it waits.

  Args:
    root: the folder.
    patience: how many seconds to wait at most.

  Raises:
    InUse: another process holds it for longer.
    OSError: the folder cannot be written.
  """
  deadline = time.monotonic() + patience
  while True:
    try:
      return lock(root)
    except InUse:
      if time.monotonic() > deadline:
        raise
    time.sleep(0.2)


def sweep(folder: Path) -> None:
  """Removes the probe and the unfinished writes of killed processes."""
  for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
    leftover.unlink(missing_ok=True)


def read_object(path: Path) -> dict[str, Any]:
  """Returns a JSON object from a file, or raises OSError or RunFolderError."""
  try:
    value = json_files.read_json(path)
  except IsADirectoryError as error:
    raise RunFolderError(f"{path} is a folder, not a file") from error
  except ValueError as error:
    raise RunFolderError(f"{path} does not hold JSON: {error}") from error
  if not isinstance(value, dict):
    raise RunFolderError(f"{path} does not hold a JSON object")
  return value


def refuse_other_config(
  root: Path, config: Mapping[str, Any], but: Collection[str] = ()
) -> None:
  """Refuses a folder whose config.json is not the config.

  Args:
    root: the folder.
    config: plain data.
    but: settings that may differ.

  Raises:
    RunFolderError: they differ, or config.json is damaged.
    OSError: it cannot be read.
  """
  held, asked = (
    {name: value for name, value in each.items() if name not in but}
    for each in (read_object(root / CONFIG), config)
  )
  changes = list(differences(held, asked, ""))
  if changes:
    way_out = "choose another folder"
    if any(change.startswith("train.steps is ") for change in changes):
      way_out += (
        " (only training under the schedule wsd can go on, to more steps)"
      )
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    raise RunFolderError(
      f"{root} belongs to a run with another config:"
      f" {'; '.join(changes[:3])}{more}; {way_out}"
    )


def refuse_smaller_config(
  root: Path, config: Mapping[str, Any], grows: Collection[str]
) -> bool:
  """Refuses a folder whose config.json is neither the config nor within it.

  Args:
    root: the folder.
    config: plain data.
    grows: settings that may hold more than those of config.json.

  Returns:
    Whether the config holds more than config.json.

  Raises:
    RunFolderError: config.json is not within the config, or is damaged.
    OSError: it cannot be read.
  """
  old = read_object(root / CONFIG)
  larger = [
    name
    for name in grows
    if name in old
    and name in config
    and old[name] != config[name]
    and _within(old[name], config[name])
  ]
  refuse_other_config(root, config, but=larger)
  return bool(larger)


def _within(old: Any, new: Any) -> bool:
  """Whether a setting has only grown."""
  if isinstance(old, dict) and isinstance(new, dict):
    if "steps" in old:
      return _longer(old, new)
    changed = {key for key in old if old[key] != new.get(key)}
    if old.keys() == new.keys():
      return all(_in_list(old[key], new[key]) for key in changed)
    return old.keys() < new.keys() and not changed
  return (
    _fewer(old, new)
    or _in_list(old, new)
    or (old is None and isinstance(new, dict))
  )


def _longer(old: Any, new: Any) -> bool:
  """Whether these are trainings, and one goes on where the other ended."""
  rest_of_old, rest_of_new = (
    {key: part for key, part in each.items() if key not in _OF_LENGTH}
    for each in (old, new)
  )
  return (
    new.get("schedule") == "wsd"
    and _fewer(old["steps"], new.get("steps"))
    and not any(differences(rest_of_old, rest_of_new, "train"))
  )


def _fewer(old: Any, new: Any) -> bool:
  """Whether these are whole numbers, and one is at most the other."""
  return isinstance(old, int) and isinstance(new, int) and old <= new


def _in_list(old: Any, new: Any) -> bool:
  """Whether these are lists, and one has all items of the other."""
  return (
    isinstance(old, list)
    and isinstance(new, list)
    and all(item in new for item in old)
  )


def differences(old: Any, new: Any, path: str) -> Iterator[str]:
  """Yields one phrase per difference between two plain values."""
  if isinstance(old, dict) and isinstance(new, dict):
    for key in dict.fromkeys((*old, *new)):
      here = f"{path}.{key}" if path else key
      if key not in new:
        yield f"{here} is {_short(old[key])} there, absent here"
      elif key not in old:
        # A setting that an earlier version did not have, and that is off now.
        same = not new[key] or new[key] == _BEFORE.get(key)
        if not same and here not in _LATER:
          yield f"{here} is absent there, {_short(new[key])} here"
      else:
        yield from differences(old[key], new[key], here)
  # True equals 1 to Python, but not in a config.
  elif old != new or isinstance(old, bool) != isinstance(new, bool):
    yield f"{path} is {_short(old)} there, {_short(new)} here"


def _short(value: Any) -> str:
  text = json.dumps(value)
  return text if len(text) <= 60 else f"{text[:57]}..."
