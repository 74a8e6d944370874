"""What run folders hold, read without locks and without training code.

A *training* is a folder of an arm with the files of `jaxlook.runs.store`: the
arm's own folder, or a folder within it that adds seeds or steps, such as
`arms/SLUG/seeds~4-7`. A reader may meet a run that another process still
writes, so what is missing is not an error here. What is damaged is described
in one line a file, and the rest is read.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from jaxlook.errors import RunFolderError
from jaxlook.runs import folder, io_faults, result_schema
from jaxlook.runs.arm import RESULT, Arm
from jaxlook.runs.folder import CONFIG, LOCK

_ARMS = "arms"
_CHECKPOINTS = "checkpoints"
_DEPTH = 3


@dataclasses.dataclass(frozen=True)
class Training:
  """Some seeds of an arm, trained for some number of steps.

  Attributes:
    root: its folder; the run folder if only the run's report is there.
    setting: of the task; empty if there is only one.
    variant: the variant's name.
    seeds: all seeds, including those that diverged.
    steps: number of steps asked for; None if its config does not say.
    done: number of steps done: that of the newest checkpoint, or all.
    finished: whether it has a result.
    losses: held-out loss by seed, of a finished training.
    diverged: the seeds that diverged.
    checkpoints: number of checkpoints.
    config: its config; empty if only the run's report is there.
    problem: what is damaged, in one line; empty if nothing is.
  """

  root: Path
  setting: str
  variant: str
  seeds: tuple[int, ...] = ()
  steps: int | None = None
  done: int = 0
  finished: bool = False
  losses: Mapping[int, float] = dataclasses.field(default_factory=dict)
  diverged: tuple[int, ...] = ()
  checkpoints: int = 0
  config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  problem: str = ""

  @property
  def arm(self) -> tuple[str, str]:
    """Setting and variant."""
    return self.setting, self.variant


@dataclasses.dataclass(frozen=True)
class Run:
  """A run folder.

  Attributes:
    root: the folder.
    config: the run's config.
    trainings: those of all arms, in the order of their folders. Published
      results have no folders of arms; then, those that the report names.
    result: the run's result.json; None if it has none, or a damaged one.
    problems: what is damaged, one line each.
  """

  root: Path
  config: Mapping[str, Any]
  trainings: tuple[Training, ...]
  result: Mapping[str, Any] | None
  problems: tuple[str, ...]

  @property
  def experiment(self) -> str:
    """The experiment's name; empty if it is not known."""
    found = self.config.get("experiment") or (self.result or {}).get(
      "experiment"
    )
    return found if isinstance(found, str) else ""

  @property
  def preset(self) -> str:
    """The preset, as result.json says; empty without it."""
    return self.result["preset"] if self.result else ""

  @property
  def reported(self) -> bool:
    """Whether the result is of the config that the folder has now."""
    return self.result is not None and not any(
      folder.differences(self.config, self.result["config"], "")
    )

  @property
  def seeds(self) -> tuple[int, ...]:
    """Seeds of any training; without trainings, those of the config."""
    found = {seed for each in self.trainings for seed in each.seeds}
    count = self.config.get("seeds")
    if not found and _is_whole(count):
      offset = self.config.get("seed_offset", 0)
      first = offset if _is_whole(offset) else 0
      return tuple(range(first, first + count))
    return tuple(sorted(found))

  @property
  def steps(self) -> tuple[int, ...]:
    """Numbers of steps of any training; without trainings, of the config."""
    found = {each.steps for each in self.trainings if each.steps is not None}
    if not found and (steps := _steps(self.config)) is not None:
      found = {steps}
    return tuple(sorted(found))

  @property
  def arms(self) -> dict[tuple[str, str], tuple[Training, ...]]:
    """The trainings of every arm, by setting and variant."""
    return {
      arm: tuple(each for each in self.trainings if each.arm == arm)
      for arm in dict.fromkeys(each.arm for each in self.trainings)
    }

  @property
  def finished_arms(self) -> int:
    """The number of arms of which every training is finished."""
    return sum(
      all(each.finished for each in trainings)
      for trainings in self.arms.values()
    )


def is_run(root: Path) -> bool:
  """Whether a folder is a run's, perhaps a damaged one."""
  if any(root.glob(f"{_ARMS}/*/{CONFIG}")):
    return True
  return (root / CONFIG).exists() and (
    any((root / name).exists() for name in (_ARMS, LOCK, RESULT))
    and _run_around(root) is None
  )


def find_runs(root: Path) -> Iterator[Path]:
  """Finds run folders, in the order of their names.

  Args:
    root: a run folder, or a folder that holds some, at most three levels deep.

  Yields:
    Run folders, and folders that cannot be read. Hidden folders, and those
    within a run, are not looked at.

  Raises:
    RunFolderError: the folder is not there, is a file, or a part of a run.
  """
  _check_folder(root)
  yield from _find(root, _DEPTH)


def read_run(root: Path) -> Run:
  """Reads a run folder.

  Args:
    root: the folder.

  Returns:
    The run; what is damaged in it is in `Run.problems`.

  Raises:
    RunFolderError: the folder is not there or not a run's, or its config.json
      is damaged.
    OSError: the folder cannot be read.
  """
  _check_folder(root)
  os.listdir(root)
  if not is_run(root):
    raise RunFolderError(
      f"{root} is not a run folder: it has no {CONFIG} with {_ARMS} or {RESULT}"
    )
  try:
    config = folder.read_object(root / CONFIG)
  except FileNotFoundError as error:
    raise RunFolderError(f"{root / CONFIG} is missing") from error
  result, problems = _read_result(root)
  trainings = tuple(_read_trainings(root))
  problems += [each.problem for each in trainings if each.problem]
  if not trainings and result is not None:
    trainings = tuple(_reported_trainings(root, config, result))
  return Run(root, config, trainings, result, tuple(problems))


def disk_use(root: Path) -> tuple[int, float]:
  """Adds up the files of a folder.

  Args:
    root: the folder. Files that vanish meanwhile, or cannot be read, are not
      counted; nor is a folder that is not there.

  Returns:
    Their bytes, and when one was changed last, in seconds since 1970.
  """
  size, changed = 0, 0.0
  for where, _, names in os.walk(root):
    for name in names:
      try:
        found = os.lstat(os.path.join(where, name))
      except OSError:
        continue
      size += found.st_size
      changed = max(changed, found.st_mtime)
  return size, changed


def checkpoint_bytes(run: Run) -> int:
  """Returns the bytes of a run's checkpoints."""
  return sum(disk_use(each.root / _CHECKPOINTS)[0] for each in run.trainings)


def _check_folder(root: Path) -> None:
  """Raises RunFolderError unless the path is a folder outside of all runs."""
  # Unlike Path's methods, these refuse no name.
  if not os.path.lexists(root):
    raise RunFolderError(f"{root} is not there")
  if not os.path.isdir(root):
    raise RunFolderError(f"{root} is not a folder")
  if run := _run_around(root):
    raise RunFolderError(
      f"{root} is a part of the run folder {run}; give that folder"
    )


def _run_around(root: Path) -> Path | None:
  """The run folder of which a folder of arms, or in it, is a part."""
  whole = root.resolve()
  for part in (whole, *whole.parents):
    if part.name == _ARMS and (part.parent / CONFIG).exists():
      return part.parent
  return None


def _find(root: Path, depth: int) -> Iterator[Path]:
  try:
    if is_run(root):
      yield root
      return
    folders = sorted(
      Path(each.path)
      for each in os.scandir(root)
      if each.is_dir() and not each.name.startswith(".")
    )
  except OSError:
    yield root
    return
  if depth:
    for each in folders:
      yield from _find(each, depth - 1)


def _read_result(root: Path) -> tuple[dict[str, Any] | None, list[str]]:
  """The report's numbers, or None, and what is damaged in them."""
  try:
    result = folder.read_object(root / RESULT)
    result_schema.validate_result(result)
  except FileNotFoundError:
    return None, []
  except RunFolderError as error:
    return None, [str(error)]
  except ValueError as error:
    return None, [f"{root / RESULT} is damaged: {error}"]
  except OSError as error:
    return None, [io_faults.line(error)]
  return result, []


def _read_trainings(root: Path) -> Iterator[Training]:
  """Reads the trainings of all arms of a run."""
  for arm in sorted(root.glob(f"{_ARMS}/*/")):
    for where, names, files in os.walk(arm):
      here = Path(where)
      if CONFIG in files:
        yield _read_training(here, arm.name)
      elif _CHECKPOINTS in names or RESULT in files:
        yield Training(
          here, "", arm.name, problem=f"{here / CONFIG} is missing"
        )
      names[:] = sorted(name for name in names if name != _CHECKPOINTS)


def _read_training(root: Path, slug: str) -> Training:
  """Reads a training; the slug names its variant if its config does not."""
  arm = Arm(root)
  names = [path.name for path in arm.checkpoints.glob("*")]
  checkpoints = [int(name) for name in names if name.isdecimal()]
  found = Training(
    root,
    "",
    slug,
    done=max(checkpoints, default=0),
    checkpoints=len(checkpoints),
  )
  try:
    config = arm.config()
    steps = _steps(config)
    seeds = config.get("seeds")
    found = dataclasses.replace(
      found,
      setting=_text(config.get("setting"), ""),
      variant=_text(config.get("variant"), slug),
      seeds=tuple(filter(_is_whole, seeds if isinstance(seeds, list) else ())),
      steps=steps,
      config=config,
    )
    if not arm.finished:
      return found
    cells = _by_seed(arm.result().get("cells"))
    return dataclasses.replace(
      found,
      done=found.done if steps is None else steps,
      finished=True,
      **_losses(cells),
    )
  except RunFolderError as error:
    return dataclasses.replace(found, problem=str(error))
  except OSError as error:
    return dataclasses.replace(found, problem=io_faults.line(error))


def _reported_trainings(
  root: Path, config: Mapping[str, Any], result: Mapping[str, Any]
) -> Iterator[Training]:
  """The trainings that a report has numbers of."""
  variants = config.get("variants")
  cells: dict[tuple[str, str], dict[int, Any]] = {}
  for cell in result["cells"]:
    if isinstance(variants, list) and cell["variant"] in variants:
      arm = (cell.get("setting", ""), cell["variant"])
      cells.setdefault(arm, {})[cell["seed"]] = cell
  steps = _steps(config)
  for arm, by_seed in cells.items():
    yield Training(
      root,
      *arm,
      seeds=tuple(sorted(by_seed)),
      steps=steps,
      done=steps or 0,
      finished=True,
      **_losses(by_seed),
    )


def _by_seed(cells: Any) -> dict[int, dict[str, Any]]:
  """The cells of an arm by seed; users may store other results."""
  return {
    cell["seed"]: cell
    for cell in (cells if isinstance(cells, list) else ())
    if isinstance(cell, dict) and _is_whole(cell.get("seed"))
  }


def _losses(by_seed: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
  """The fields `losses` and `diverged` of a training."""
  losses = {}
  for seed, cell in by_seed.items():
    metrics = cell.get("metrics")
    loss = metrics.get("loss") if isinstance(metrics, dict) else None
    if cell.get("status") == "done" and isinstance(loss, int | float):
      losses[seed] = float(loss)
  return {
    "losses": losses,
    "diverged": tuple(
      seed for seed, cell in by_seed.items() if cell.get("status") == "diverged"
    ),
  }


def _steps(config: Mapping[str, Any]) -> int | None:
  train = config.get("train")
  steps = train.get("steps") if isinstance(train, dict) else None
  return steps if _is_whole(steps) else None


def _text(value: Any, otherwise: str) -> str:
  return value if isinstance(value, str) else otherwise


def _is_whole(value: Any) -> TypeGuard[int]:
  return isinstance(value, int) and not isinstance(value, bool)
