"""The run store: a folder from which a killed run can continue.

    ROOT/config.json        the resolved config; a folder belongs to one config
    ROOT/.lock              held by the process that uses the folder
    ROOT/arms/SLUG/         one variant of one task setting, all its seeds
      config.json           the arm's own config
      .lock                 held by a worker that uses the arm; see `Arm.hold`
      checkpoints/          written by the training code (orbax), not here
      environment.json      of the process that finished the arm
      metrics.parquet       the training curves
      result.json           written last: the arm is finished once it exists
    ROOT/cells.parquet, figures/, report.md, result.json
                            written once all arms are finished

Every file is written aside, synced and renamed, so a reader finds it whole or
not at all. A rerun skips the finished arms and resumes the others. A refusal is
a `ValueError` of one line, which a binary can print as it is.

The lock is that of `flock`. The system releases it when the process ends, so a
killed run leaves no lock behind. The module therefore needs a POSIX system.

The library only returns and stores values; the binaries print. Writers of
single files are in `jaxlook.runs.atomic_files`, and the contract of
ROOT/result.json is in `jaxlook.runs.result_schema`.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jaxlook.runs import json_files, result_schema
from jaxlook.runs.atomic_files import (
  TEMPORARY_SUFFIX,
  slug,
  write_bytes,
  write_json,
  write_table,
)
from jaxlook.runs.environment import environment

_CONFIG = "config.json"
_RESULT = "result.json"
# What configs of earlier versions do not have.
_LATER = ("identity",)
_LOCK = ".lock"
_PROBE = f".probe{TEMPORARY_SUFFIX}"


class Unseen(ValueError):  # noqa: N818 - the result may appear later.
  """Another process has written a result that this process cannot see."""


@dataclasses.dataclass(frozen=True)
class Arm:
  """One variant of one task setting, with all its seeds; see `Store.arm`.

  Attributes:
    root: the arm's folder.
    follows: whether another process of this run writes it; then this one
      writes nothing.
  """

  root: Path
  follows: bool = False

  @property
  def checkpoints(self) -> Path:
    """The folder for checkpoints; the first checkpoint creates it."""
    return self.root / "checkpoints"

  @property
  def finished(self) -> bool:
    """Whether a complete result exists; then the arm needs no training."""
    try:
      self.result()
    except (OSError, ValueError):
      return False
    return True

  def config(self) -> dict[str, Any]:
    """Returns the config with which the arm began.

    Raises:
      OSError: the folder holds no arm.
      ValueError: config.json does not hold a JSON object.
    """
    return _read_object(self.root / _CONFIG)

  def result(self) -> dict[str, Any]:
    """Returns the result that `write_result` wrote.

    Raises:
      OSError: the arm is not finished.
      ValueError: result.json does not hold a JSON object.
    """
    return _read_object(self.root / _RESULT)

  def await_result(self, seconds: float = 60.0) -> None:
    """Waits until this process sees the result that another one has written.

    Network file systems may show an old state for a while.

    Args:
      seconds: how long to wait.

    Raises:
      Unseen: the result did not appear in that time.
    """
    deadline = time.monotonic() + seconds
    while not self.finished:
      if time.monotonic() > deadline:
        raise Unseen(
          f"{self.root} shows no result here; all processes must share the"
          " folder"
        )
      time.sleep(0.2)
      # Makes the file system look again.
      with contextlib.suppress(OSError):
        os.listdir(self.root)

  def metrics(self) -> pa.Table:
    """Returns the training curves of a finished arm.

    Raises:
      OSError: the arm is not finished.
    """
    return pq.read_table(self.root / "metrics.parquet")

  @contextlib.contextmanager
  def hold(self) -> Iterator[None]:
    """Holds the arm for this process alone while the body runs.

    The process that holds the store does not need this. Its worker processes
    do: a worker that is believed lost, and was replaced, may still write.

    Yields:
      Nothing; unfinished writes of killed processes are removed.

    Raises:
      ValueError: another process holds the arm.
      OSError: the folder cannot be written.
    """
    lock = _lock(self.root)
    try:
      _sweep(self.root)
      yield
    finally:
      os.close(lock)

  def write_result(
    self, result: Mapping[str, Any], metrics: pa.Table
  ) -> dict[str, Any]:
    """Writes environment, metrics and, last, the result: the arm is finished.

    Args:
      result: anything that `jaxlook.runs.result_schema.plain` accepts.
      metrics: the training curves.

    Returns:
      The result as a rerun will read it, so that a first run continues with
      exactly the same values.

    Raises:
      ValueError: the result holds something JSON cannot.
      OSError: a file cannot be written; the arm stays unfinished.
    """
    tree = result_schema.plain(result, "result")
    if self.follows:
      return tree
    write_json(self.root / "environment.json", environment())
    write_table(self.root / "metrics.parquet", metrics)
    write_json(self.root / _RESULT, tree)
    return tree


@dataclasses.dataclass(frozen=True)
class Arms:
  """The arms of a run folder, for worker processes.

  It holds no lock, so it can be sent to other processes. `Store` holds the
  folder.

  Attributes:
    root: the run folder.
  """

  root: Path

  @property
  def follows(self) -> bool:
    """Whether another process of this run writes; then this one does not."""
    return False

  def arm(self, name: str, config: Mapping[str, Any]) -> Arm:
    """Returns the arm of this name; a new arm gets its config.json.

    Args:
      name: unique in this store, such as "leak:0.3/kv"; the arm's folder is
        `arms/` and `slug(name)`.
      config: the arm's resolved config, with finite numbers only.

    Returns:
      The arm: finished, or to be trained or resumed.

    Raises:
      ValueError: the name is empty, the config is not plain data, or the arm
        began with another config; resuming would mix the two.
      OSError: the folder cannot be written.
    """
    tree = result_schema.plain(config, "config", finite=True)
    root = self.root / "arms" / slug(name)
    if (root / _CONFIG).exists():
      _refuse_other_config(root, tree)
    elif not self.follows:
      write_json(root / _CONFIG, tree)
    return Arm(root, self.follows)


@dataclasses.dataclass(frozen=True, eq=False)
class Store(Arms):
  """A run folder held by this process until `close`; see `open_store`.

  Of several processes that train together one holds the folder. The others have
  a store without a lock, which writes nothing; see `follow_store`.

  Used as `with open_store(root, config) as store:`.

  Attributes:
    root: the folder.
    config: the config as config.json holds it.
  """

  config: dict[str, Any]
  _release: weakref.finalize | None = dataclasses.field(init=False, repr=False)
  lock: dataclasses.InitVar[int | None]

  def __post_init__(self, lock: int | None):
    """Releases the lock when the store is closed or deleted."""
    release = None
    if lock is not None:
      release = weakref.finalize(self, os.close, lock)
    object.__setattr__(self, "_release", release)

  def __enter__(self) -> "Store":
    """Returns the store."""
    return self

  def __exit__(self, *error: object) -> None:
    """Closes the store."""
    self.close()

  def close(self) -> None:
    """Releases the folder for another run; closing twice is harmless."""
    if self._release is not None:
      self._release()

  @property
  def follows(self) -> bool:
    """Whether another process of this run holds the folder and writes."""
    return self._release is None

  @property
  def figures(self) -> Path:
    """The folder for figures; the first figure creates it."""
    return self.root / "figures"

  def write_result(self, result: Mapping[str, Any]) -> None:
    """Writes cells.parquet and then result.json.

    Args:
      result: follows the contract in `jaxlook.runs.result_schema`; its config
        is the store's.

    Raises:
      ValueError: the result breaks the contract or has another config;
        nothing is written.
      OSError: a file cannot be written.
    """
    result_schema.validate_result(result)
    tree = result_schema.plain(result)
    for change in _changes(self.config, tree["config"], "result.config"):
      raise ValueError(f"the store's config differs: {change}")
    table = result_schema.cells_table(tree["cells"])
    write_table(self.root / "cells.parquet", table)
    write_json(self.root / _RESULT, tree)


def open_store(
  root: str | os.PathLike[str], config: Mapping[str, Any]
) -> Store:
  """Opens a run folder for this process alone; creates a new one.

  Args:
    root: the folder: absent, empty, or a store with the same config.
    config: the resolved config, plain data with finite numbers only. A tuple
      equals the list that JSON turns it into.

  Returns:
    The store, locked until it is closed or the process ends.

  Raises:
    ValueError: the config is not plain data; or the folder has another config
      (the message names the first differences), is in use by another run,
      holds files but is not a store, is not a folder, or cannot be written.
      The message is one line. A folder that is not a store is left unchanged.
  """
  root = Path(root)
  tree = result_schema.plain(config, "config", finite=True)
  try:
    root.mkdir(parents=True, exist_ok=True)
    names = os.listdir(root)
    if _CONFIG in names:
      _refuse_other_config(root, tree)
    foreign = [name for name in names if not _is_ours_before_config(name)]
    if foreign and _CONFIG not in names:
      raise ValueError(
        f"{root} holds files but no {_CONFIG}; choose a run folder or a new one"
      )
    lock = _lock(root)
    try:
      # Checked again, now that no other process can write it. The probe proves
      # that this one can: permission bits do not tell for a superuser or a full
      # disk.
      if (root / _CONFIG).exists():
        _refuse_other_config(root, tree)
        write_bytes(root / _PROBE, b"")
      else:
        write_json(root / _CONFIG, tree)
      for folder in (root, *root.glob("arms/*")):
        _sweep(folder)
    except BaseException:
      os.close(lock)
      raise
  except (FileExistsError, NotADirectoryError) as error:
    raise ValueError(
      f"{root} is a file or lies in one; choose a folder"
    ) from error
  except OSError as error:
    raise ValueError(
      f"cannot write to the folder {root}: {error.strerror or error}"
    ) from error
  return Store(root, tree, lock=lock)


def follow_store(
  root: str | os.PathLike[str], config: Mapping[str, Any]
) -> Store:
  """A run folder that another process of this run has opened.

  Args:
    root: the folder, shared by the processes.
    config: as in `open_store`.

  Returns:
    The store; its arms write nothing.

  Raises:
    ValueError: the config is not plain data, or the folder cannot be read or
      has another config, for instance since this process got other flags.
  """
  root, tree = Path(root), result_schema.plain(config, "config", finite=True)
  try:
    _refuse_other_config(root, tree)
  except OSError as error:
    raise ValueError(
      f"cannot read {root}, which all processes must share:"
      f" {error.strerror or error}"
    ) from error
  return Store(root, tree, lock=None)


def _lock(root: Path) -> int:
  """Returns a descriptor that holds the folder's lock while it is open."""
  descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Only for the message below, so it need not be written atomically.
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
  except BlockingIOError as error:
    owner = os.read(descriptor, 20).decode(errors="replace")
    os.close(descriptor)
    if owner == str(os.getpid()):
      raise ValueError(
        f"{root} is open in this process already; close its store first, or"
        " open it with `with`"
      ) from error
    raise ValueError(
      f"{root} is in use by another run (process {owner or 'unknown'}); wait"
      " for it or choose another folder"
    ) from error
  except BaseException:
    os.close(descriptor)
    raise
  return descriptor


def _is_ours_before_config(name: str) -> bool:
  """Whether a store may have this file before it has a config."""
  return name == _LOCK or name.endswith(TEMPORARY_SUFFIX)


def _sweep(folder: Path) -> None:
  """Removes the probe and the unfinished writes of killed processes."""
  for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
    leftover.unlink(missing_ok=True)


def _read_object(path: Path) -> dict[str, Any]:
  """Returns a JSON object from a file, or raises OSError or ValueError."""
  try:
    value = json_files.read_json(path)
  except ValueError as error:
    raise ValueError(f"{path} does not hold JSON: {error}") from error
  if not isinstance(value, dict):
    raise ValueError(f"{path} does not hold a JSON object")
  return value


def _refuse_other_config(root: Path, config: dict[str, Any]) -> None:
  """Raises ValueError unless the folder's config.json equals the config."""
  changes = list(_changes(_read_object(root / _CONFIG), config, ""))
  if changes:
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    raise ValueError(
      f"{root} belongs to a run with another config:"
      f" {'; '.join(changes[:3])}{more}; choose another folder"
    )


def _changes(old: Any, new: Any, path: str) -> Iterator[str]:
  """Yields one phrase per difference between two plain values."""
  if isinstance(old, dict) and isinstance(new, dict):
    for key in dict.fromkeys((*old, *new)):
      here = f"{path}.{key}" if path else key
      if key not in new:
        yield f"{here} is {_short(old[key])} there, absent here"
      elif key not in old:
        # A setting that an earlier version did not have, and that is off now.
        off = new[key] is None or new[key] is False
        if not off and here not in _LATER:
          yield f"{here} is absent there, {_short(new[key])} here"
      else:
        yield from _changes(old[key], new[key], here)
  # True equals 1 to Python, but not in a config.
  elif old != new or isinstance(old, bool) != isinstance(new, bool):
    yield f"{path} is {_short(old)} there, {_short(new)} here"


def _short(value: Any) -> str:
  text = json.dumps(value)
  return text if len(text) <= 60 else f"{text[:57]}..."
