"""An arm's folder: its config, its curves and, written last, its result.

Checksums of these files are written with the result. An arm with a file that
has changed since is refused by name and never trained again unasked.
"""

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jaxlook.errors import DamagedError, RunFolderError
from jaxlook.runs import checksums, folder, io_faults, result_schema
from jaxlook.runs.atomic_files import (
  json_bytes,
  write_bytes,
  write_json,
  write_table,
)
from jaxlook.runs.environment import environment

RESULT = "result.json"
_ENVIRONMENT = "environment.json"
_METRICS = "metrics.parquet"


class Unseen(RunFolderError):  # noqa: N818 - the result may appear later.
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
    """Whether a result was written; then the arm needs no training.

    `result` tells whether it is whole.

    Raises:
      OSError: the folder cannot be read.
    """
    try:
      os.stat(self.root / RESULT)
    except (FileNotFoundError, NotADirectoryError):
      return False
    return True

  @property
  def fingerprint(self) -> str:
    """Identifies the arm's config, for its checkpoints.

    Raises:
      OSError: the folder holds no arm.
    """
    config = io_faults.read_bytes(self.root / folder.CONFIG)
    return hashlib.sha256(config).hexdigest()[:16]

  def config(self) -> dict[str, Any]:
    """Returns the config with which the arm began.

    Raises:
      OSError: the folder holds no arm.
      RunFolderError: config.json does not hold a JSON object.
    """
    return folder.read_object(self.root / folder.CONFIG)

  def result(self) -> dict[str, Any]:
    """Returns the result that `write_result` wrote.

    Raises:
      OSError: the arm is not finished, or cannot be read.
      RunFolderError: a file of the arm has changed since it was written.
    """
    os.stat(self.root / RESULT)
    with self.explained():
      # Arms of earlier versions have neither checksums nor an identity.
      if checksums.check(self.root) is None and "identity" in self.config():
        raise DamagedError(f"{self.root / checksums.NAME} is missing")
      return folder.read_object(self.root / RESULT)

  def await_result(self, seconds: float = 60.0) -> None:
    """Waits until this process sees the result that another one has written.

    Network file systems may show an old state for a while.

    Args:
      seconds: how long to wait.

    Raises:
      Unseen: the result did not appear in that time.
    """
    deadline = time.monotonic() + seconds
    while True:
      with contextlib.suppress(OSError):
        if self.finished:
          return
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
      OSError: the arm is not finished, or cannot be read.
      RunFolderError: the file holds no table.
    """
    path = self.root / _METRICS
    with self.explained():
      try:
        return pq.read_table(pa.BufferReader(io_faults.read_bytes(path)))
      except (pa.ArrowException, IsADirectoryError) as error:
        raise RunFolderError(f"{path} holds no table") from error

  @contextlib.contextmanager
  def explained(self) -> Iterator[None]:
    """Adds what to do to the message that something of the arm is damaged."""
    try:
      yield
    except RunFolderError as error:
      what = f"delete the folder {self.root}"
      if any(self.root.glob(f"*~*/{folder.CONFIG}")):
        what = (
          f"delete the files in {self.root} and its folder checkpoints, but not"
          " the folders of what was added"
        )
      raise RunFolderError(
        f"{error}; to train this arm again, {what}"
      ) from error

  @contextlib.contextmanager
  def hold(self) -> Iterator[None]:
    """Holds the arm for this process alone while the body runs.

    Several runs may use the folder, and a worker that is believed lost, and was
    replaced, may still write.

    Yields:
      Nothing; unfinished writes of killed processes are removed.

    Raises:
      InUse: another process holds the arm.
      OSError: the folder cannot be written.
    """
    lock = folder.lock(self.root)
    try:
      folder.sweep(self.root)
      yield
    finally:
      os.close(lock)

  def write_result(
    self, result: Mapping[str, Any], metrics: pa.Table
  ) -> dict[str, Any]:
    """Writes environment, metrics, checksums and, last, the result.

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
    write_json(self.root / _ENVIRONMENT, environment())
    write_table(self.root / _METRICS, metrics)
    written = json_bytes(tree)
    checksums.write(
      self.root,
      "the files of an arm",
      (folder.CONFIG, _ENVIRONMENT, _METRICS),
      later={RESULT: written},
    )
    write_bytes(self.root / RESULT, written)
    return tree
