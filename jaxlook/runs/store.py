"""The run store: a folder from which a killed run can continue.

    ROOT/config.json        the resolved config; a folder belongs to one config,
                            of which some settings may grow
    ROOT/.lock              held to change the config and to write the report;
                            all the time by a run that shares with no other
    ROOT/arms/SLUG/         one variant of one task setting, all its seeds
      config.json           the arm's own config
      .lock                 held by the process that trains it; see `Arm.hold`
      checkpoints/          written by the training code (orbax), not here
      environment.json      of the process that finished the arm
      metrics.parquet       the training curves
      SHA256SUMS            of these files and of result.json
      result.json           written last: the arm is finished once it exists
      PART/                 the same files, of seeds that were added later
    ROOT/cells.parquet, figures/, report.md, result.json
                            written once all arms are finished

Every file is written aside, synced and renamed, so a reader finds it whole or
not at all. A rerun skips the finished arms and resumes the others. A refusal is
a `ValueError` of one line, which a binary can print as it is. What has changed
since it was written is refused with a `RunFolderError`; see
`jaxlook.runs.checksums`.

The lock is that of `flock`. The system releases it when the process ends, so a
killed run leaves no lock behind. The module therefore needs a POSIX system.

The library only returns and stores values; the binaries print. Writers of
single files are in `jaxlook.runs.atomic_files`, and the contract of
ROOT/result.json is in `jaxlook.runs.result_schema`.
"""

import contextlib
import dataclasses
import os
import weakref
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxlook.errors import RunFolderError
from jaxlook.runs import folder, result_schema
from jaxlook.runs.arm import RESULT, Arm
from jaxlook.runs.atomic_files import (
  TEMPORARY_SUFFIX,
  slug,
  write_bytes,
  write_json,
  write_table,
)
from jaxlook.runs.folder import CONFIG, LOCK

PATIENCE = 20.0
"""Seconds in which another run writes its report."""
_PROBE = f".probe{TEMPORARY_SUFFIX}"


class Grown(RunFolderError):  # noqa: N818 - another run reports.
  """Another run has added to the folder, and will report it."""


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

  def find_arm(self, name: str, part: str = "") -> Arm:
    """Returns the arm of this name, which need not have begun.

    Args:
      name: see `arm`.
      part: see `arm`.

    Raises:
      ValueError: the name is empty.
    """
    return Arm(self.root / "arms" / slug(name) / part, self.follows)

  def arm(
    self,
    name: str,
    config: Mapping[str, Any],
    part: str = "",
    but: Collection[str] = ("seeds",),
  ) -> Arm:
    """Returns the arm of this name; a new arm gets its config.json.

    Args:
      name: unique in this store, such as "leak:0.3/kv"; the arm's folder is
        `arms/` and `slug(name)`.
      config: the arm's resolved config, with finite numbers only.
      part: a folder within the arm's, for what is added to it.
      but: settings in which the config of a part may differ from the arm's.

    Returns:
      The arm: finished, or to be trained or resumed.

    Raises:
      ValueError: the name is empty, or the config is not plain data.
      RunFolderError: the arm began with another config, and resuming would mix
        the two; or its config.json is damaged.
      OSError: the folder cannot be written.
    """
    tree = result_schema.plain(config, "config", finite=True)
    arm = self.find_arm(name, part)
    first = self.find_arm(name)
    if part and (first.root / CONFIG).exists():
      with first.explained():
        folder.refuse_other_config(first.root, tree, but=but)
    if (arm.root / CONFIG).exists():
      with arm.explained():
        folder.refuse_other_config(arm.root, tree)
    elif not self.follows:
      write_json(arm.root / CONFIG, tree)
    return arm


@dataclasses.dataclass(frozen=True, eq=False)
class Store(Arms):
  """A run folder held by this process until `close`; see `open_store`.

  Of several processes that train together one holds the folder. The others have
  a store without a lock, which writes nothing; see `follow_store`.

  After `share` other runs may use the folder, too, each holding the arm that it
  trains, and `alone` holds the folder again to write what is in common.

  Used as `with open_store(root, config) as store:`.

  Attributes:
    root: the folder.
    config: the config as config.json holds it, once `alone` has written it.
    grows: the settings that may hold more than config.json.
    shared: whether other runs may use the folder, since `share`.
  """

  config: dict[str, Any]
  grows: tuple[str, ...]
  _release: weakref.finalize | None = dataclasses.field(init=False, repr=False)
  shared: bool = dataclasses.field(init=False, default=False)
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

  def share(self) -> None:
    """Lets other runs use the folder, but for the arms that are held."""
    object.__setattr__(self, "shared", True)
    self.close()

  @contextlib.contextmanager
  def alone(self, patience: float = PATIENCE) -> Iterator[None]:
    """Holds a shared folder while the body runs; others are held anyway.

    What the run adds to the folder's config is written at the end of the body,
    unless that raises.

    Args:
      patience: how many seconds to wait for another run that holds it.

    Yields:
      Nothing.

    Raises:
      Grown: another run has added to the folder's config.
      RunFolderError: another run holds the folder for longer.
      OSError: the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
      if self.shared:
        stack.callback(os.close, folder.await_lock(self.root, patience))
      grown = False
      if not self.follows:
        try:
          grown = folder.refuse_smaller_config(
            self.root, self.config, self.grows
          )
        except RunFolderError as error:
          raise Grown(
            f"another run has added to {self.root} since this one began"
          ) from error
      yield
      if grown:
        write_json(self.root / CONFIG, self.config)

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
    for change in folder.differences(
      self.config, tree["config"], "result.config"
    ):
      raise ValueError(f"the store's config differs: {change}")
    table = result_schema.cells_table(tree["cells"])
    write_table(self.root / "cells.parquet", table)
    write_json(self.root / RESULT, tree)


def open_store(
  root: str | os.PathLike[str],
  config: Mapping[str, Any],
  grows: Collection[str] = (),
  patience: float = 0.0,
) -> Store:
  """Opens a run folder for this process alone; creates a new one.

  Args:
    root: the folder: absent, empty, or a store with the same config.
    config: the resolved config, plain data with finite numbers only. A tuple
      equals the list that JSON turns it into.
    grows: settings that may hold more than those of the store: a larger whole
      number, a list with more items, a table with more rows, a longer training.
      `alone` writes them.
    patience: how many seconds to wait for a run that holds the folder.

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
    if CONFIG in names:
      folder.refuse_smaller_config(root, tree, grows)
    foreign = [name for name in names if not _is_ours_before_config(name)]
    if foreign and CONFIG not in names:
      raise ValueError(
        f"{root} holds files but no {CONFIG}; choose a run folder or a new one"
      )
    lock = folder.await_lock(root, patience)
    try:
      # Checked again, now that no other process can write it. The probe proves
      # that this one can: permission bits do not tell for a superuser or a full
      # disk.
      if (root / CONFIG).exists():
        folder.refuse_smaller_config(root, tree, grows)
        write_bytes(root / _PROBE, b"")
      else:
        write_json(root / CONFIG, tree)
      folder.sweep(root)
    except BaseException:
      os.close(lock)
      raise
  except (FileExistsError, NotADirectoryError) as error:
    raise ValueError(
      f"{root} is a file or lies in one; choose a folder"
    ) from error
  except OSError as error:
    what = error.filename or f"to the folder {root}"
    raise ValueError(
      f"cannot write {what}: {error.strerror or error}"
    ) from error
  return Store(root, tree, tuple(grows), lock=lock)


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
    folder.refuse_other_config(root, tree)
  except OSError as error:
    raise ValueError(
      f"cannot read {root}, which all processes must share:"
      f" {error.strerror or error}"
    ) from error
  return Store(root, tree, (), lock=None)


def _is_ours_before_config(name: str) -> bool:
  """Whether a store may have this file before it has a config."""
  return name == LOCK or name.endswith(TEMPORARY_SUFFIX)
