"""Texts of the package `datasets`; each row of a text column is a document.

Rows are read from memory-mapped files on disk, so they need not fit in memory.
"""

import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PREFIX = "datasets:"

_ROWS = 256  # Rows read at a time.
_OPTIONS = {"config": None, "split": "train", "column": "text"}


@dataclasses.dataclass(frozen=True)
class Rows:
  """The rows of one column; see `open_rows`.

  Attributes:
    text: the argument of `open_rows`.
    column: the column of strings.
    split: the split of the data set.
    dataset: a `datasets.Dataset`.
  """

  text: str
  column: str
  split: str
  dataset: Any = dataclasses.field(repr=False)

  def __str__(self) -> str:
    """The argument of `open_rows`."""
    return self.text

  @property
  def name(self) -> str:
    """The last part of the data set's name."""
    return Path(self.text.removeprefix(PREFIX).partition(",")[0]).name

  @property
  def selection(self) -> str:
    """The part of the files that is read."""
    return f"{self.split} {self.column}"

  def files(self) -> list[Path]:
    """The files on disk that hold the rows, in order."""
    return [Path(each["filename"]) for each in self.dataset.cache_files]

  def documents(self, chunk_bytes: int) -> Iterator[Iterator[str]]:
    """Yields the text of every row that is not empty.

    Args:
      chunk_bytes: not used: each row is read whole.

    Yields:
      One part per document.

    Raises:
      ValueError: a row is not text.
    """
    del chunk_bytes
    rows = self.dataset.select_columns([self.column])
    for batch in rows.iter(batch_size=_ROWS):
      for text in batch[self.column]:
        if text is not None and not isinstance(text, str):
          raise ValueError(
            f"{self.text}: column {self.column!r} contains"
            f" {type(text).__name__}, not text"
          )
        if text:
          yield iter((text,))


def open_rows(text: str) -> Rows:
  """Opens a data set by name, or from a folder on disk.

  Args:
    text: `datasets:NAME` with any of `,config=C`, `,split=S` and `,column=K`;
      by default the split `train` and the column `text`. NAME is a name for
      `datasets.load_dataset`, which may download it, or a folder that
      `save_to_disk` wrote.

  Returns:
    The rows, not read yet.

  Raises:
    ValueError: an option is unknown, the data set cannot be opened, or the
      split or column does not exist.
    ImportError: the extra `datasets` is not installed.
  """
  try:
    datasets = importlib.import_module("datasets")
  except ImportError as error:
    raise ImportError(
      f"{text} needs datasets: pip install jaxlook[datasets]"
    ) from error
  name, *changes = text.removeprefix(PREFIX).split(",")
  options = dict(_OPTIONS)
  for option in changes:
    key, equals, value = option.partition("=")
    if key not in options or not equals:
      known = ", ".join(f"{each}=" for each in options)
      raise ValueError(f"{text}: {option!r} is unknown; use one of {known}")
    options[key] = value
  split, column = str(options["split"]), str(options["column"])
  try:
    dataset = _load(datasets, name, options["config"], split)
  except Exception as error:  # Hub and files raise errors of many types.
    raise ValueError(
      f"{text}: cannot be opened: {' '.join(str(error).split())}"
    ) from error
  if column not in dataset.column_names:
    raise ValueError(
      f"{text}: no column {column!r}; it has {dataset.column_names}"
    )
  if not dataset.cache_files:
    raise ValueError(
      f"{text}: the data set has no files on disk; use another data set"
    )
  return Rows(text, column, split, dataset)


def _load(datasets: Any, name: str, config: str | None, split: str) -> Any:
  """Loads a split from a folder that `save_to_disk` wrote, or by name."""
  folder = Path(name)
  if (folder / "dataset_dict.json").is_file():
    splits = datasets.load_from_disk(name)
    if split not in splits:
      raise ValueError(f"no split {split!r}; it has {', '.join(splits)}")
    return splits[split]
  if (folder / "state.json").is_file():
    if split != _OPTIONS["split"]:
      raise ValueError(f"no split {split!r}: the folder holds a single split")
    return datasets.load_from_disk(name)
  return datasets.load_dataset(name, config, split=split)
