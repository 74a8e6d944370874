"""Parts of an arm: seeds that were trained together, and longer trainings.

The first seeds of an arm lie in the arm's folder. Seeds that are added later
lie in folders within it, such as `seeds~4-7`, each with the same files. A
longer training lies in a folder such as `steps~800`, which is like an arm's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxlook.errors import RunFolderError, SettingError
from jaxlook.runs.arm import Arm
from jaxlook.runs.atomic_files import slug
from jaxlook.runs.folder import CONFIG
from jaxlook.training.config import TrainConfig


def part_name(seeds: Sequence[int]) -> str:
  """Returns the name of the folder of seeds that were added to an arm."""
  return slug(f"seeds {spans(seeds)}")


def longer_name(steps: int) -> str:
  """Returns the name of the folder of a longer training of an arm."""
  return slug(f"steps {steps}")


def is_longer(part: str) -> bool:
  """Whether a part's folder lies in that of a longer training."""
  return part.startswith(longer_name(0)[:-1])


def trainings(root: Path) -> list[Path]:
  """Returns the folders of an arm's trainings that have begun, longest first.

  Args:
    root: the arm's folder.

  Raises:
    RunFolderError: a part's config is damaged.
    OSError: a folder cannot be read.
  """
  found = {
    steps: folder
    for folder in (root, *root.glob(f"{longer_name(0)[:-1]}*"))
    for part in part_folders(folder)[:1]
    if (steps := train_of(part).steps)
  }
  return [found[steps] for steps in sorted(found, reverse=True)]


def train_of(folder: Path) -> TrainConfig:
  """Returns how a part that has begun is trained.

  Raises:
    RunFolderError: its config is damaged, or of another version.
    OSError: it cannot be read.
  """
  try:
    train: dict[str, Any] = dict(Arm(folder).config()["train"])
    train["keep_steps"] = tuple(train["keep_steps"])
    return TrainConfig(**train)
  except (KeyError, TypeError, SettingError) as error:
    raise RunFolderError(f"{folder} is of another version: {error}") from error


def spans(seeds: Sequence[int]) -> str:
  """Returns seeds in few words, such as "0-3,8"."""
  found: list[list[int]] = []
  for seed in sorted(seeds):
    if found and seed == found[-1][-1] + 1:
      found[-1][1:] = [seed]
    else:
      found.append([seed])
  return ",".join("-".join(map(str, span)) for span in found)


def part_folders(root: Path) -> list[Path]:
  """Returns the folders of an arm's parts that have begun, by their seeds.

  Args:
    root: the arm's folder.

  Raises:
    RunFolderError: a part's config is damaged.
    OSError: a folder cannot be read.
  """
  folders = [path.parent for path in root.glob(f"seeds~*/{CONFIG}")]
  if (root / CONFIG).exists():
    folders.append(root)
  return sorted(folders, key=lambda folder: seeds_of(folder)[:1])


def seeds_of(folder: Path) -> tuple[int, ...]:
  """Returns the seeds of a part that has begun.

  Raises:
    RunFolderError: its config is damaged.
    OSError: it cannot be read.
  """
  arm = Arm(folder)
  with arm.explained():
    seeds = arm.config().get("seeds")
    if not isinstance(seeds, list) or not seeds:
      raise RunFolderError(f"{folder / CONFIG} names no seeds")
    return tuple(seeds)


def split(
  root: Path, seeds: Sequence[int], shorter: Sequence[Path] = ()
) -> list[tuple[int, ...]]:
  """Cuts seeds into those of the parts that have begun, and the others.

  Args:
    root: the arm's folder, which need not exist.
    seeds: the seeds to train.
    shorter: folders of shorter trainings, whose parts are kept together.

  Returns:
    The seeds of each part; the last are new.

  Raises:
    RunFolderError: a part has more seeds than are to be trained, or its config
      is damaged.
    OSError: a folder cannot be read.
  """
  begun = [seeds_of(folder) for folder in part_folders(root)]
  held = [each for each in begun if set(each) & set(seeds)]
  for each in held:
    if not set(each) <= set(seeds):
      raise RunFolderError(
        f"{root} belongs to a run with more seeds: it has {spans(each)}, not"
        f" only {spans(seeds)}; ask for all of them, or choose another folder"
      )
  for each in (
    seeds_of(part) for other in shorter for part in part_folders(other)
  ):
    known = {seed for part in held for seed in part}
    if set(each) <= set(seeds) and not set(each) & known:
      held.append(each)
  known = {seed for part in held for seed in part}
  new = tuple(seed for seed in seeds if seed not in known)
  return [*held, new] if new else held
