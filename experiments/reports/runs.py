"""What `experiments.runs` says of run folders, as lines and tables."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import app
from jaxlook import reporting
from jaxlook.numerals import counted
from jaxlook.runs import inventory
from jaxlook.runs.inventory import Run, Training
from jaxlook.runs.run_settings import flattened
from jaxlook.training.parts import spans

_COLUMNS = ("changed", "size", "arms", "seeds", "steps", "report")
_EXPERIMENT = 10  # The fewest columns of an experiment's name,
_FOLDER = 16  # and of a folder's, if both are too long.
_VALUE = 60
_WIDTH = 80
_SETTINGS = 40
_CLAIMS = 20
_OFF = "-"


def listing(
  entries: Sequence[tuple[Path, Run | str]], width: int | None
) -> list[str]:
  """A table with one row a run, the folder last.

  Args:
    entries: by folder, the run, or what is wrong with the folder.
    width: columns of the terminal; None to shorten no folder.

  Returns:
    The lines. If they are too wide, the preset is left out, and then names lose
    their middle.
  """
  rows: list[tuple[str, ...]] = [(*_COLUMNS, "kind", "preset", "folder")]
  for root, entry in entries:
    if isinstance(entry, Run) and not entry.problems:
      rows.append((*_row(entry), app.printable(str(root))))
  room = width or _WIDTH
  if _total(rows) > room:
    rows = [(*row[:-2], row[-1]) for row in rows]
  if _total(rows) > room:
    rows = [(*row[:-2], middle(row[-2], _EXPERIMENT), row[-1]) for row in rows]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  before = sum(widths[:-1]) + 2 * (len(widths) - 1)
  last = max(_FOLDER, width - before) if width else None
  lines = iter(_line(row, widths, last) for row in rows)
  shown = [next(lines)]
  for root, entry in entries:
    if isinstance(entry, Run) and not entry.problems:
      shown.append(next(lines))
    else:
      folder = middle(app.printable(str(root)), last)
      said = f"damaged: {wrong(root, entry)}"
      if len(said) > before - 2:
        said = f"{said[: before - 3]}…"
      shown.append(f"{said:{before}}{folder}")
  return shown


def _line(row: Sequence[str], widths: Sequence[int], last: int | None) -> str:
  cells = [
    f"{cell:{width}}" for cell, width in zip(row[:-1], widths, strict=False)
  ]
  return "  ".join((*cells, middle(row[-1], last)))


def _total(rows: Sequence[Sequence[str]]) -> int:
  """The width of a table."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return sum(widths) + 2 * (len(widths) - 1)


def _row(run: Run) -> tuple[str, ...]:
  """The row of a run, up to the folder."""
  taken, changed = inventory.disk_use(run.root)
  report = "yes" if run.reported else "old" if run.result else "no"
  return (
    date(changed),
    size(taken),
    f"{run.finished_arms}/{len(run.arms)}" if run.arms else _OFF,
    middle(spans(run.seeds), 11) or _OFF,
    middle(",".join(map(str, run.steps)), 11) or _OFF,
    report,
    run.experiment or _OFF,
    run.preset or _OFF,
  )


def wrong(root: Path, entry: Run | str) -> str:
  """What is damaged in a run folder, in one line without the folder's name."""
  problems = [entry] if isinstance(entry, str) else list(entry.problems)
  first = problems[0].removeprefix(f"{root}/")
  if len(problems) > 1:
    first += f"; and {len(problems) - 1} more"
  return " ".join(app.printable(first).split())


def heading(run: Run) -> list[str]:
  """What a run is, and what it takes on the disk, in a few lines."""
  taken, changed = inventory.disk_use(run.root)
  preset = f", preset {run.preset}" if run.preset else ""
  arms = counted(len(run.arms), "arm")
  if not run.trainings:
    holds = "no arms"
  elif run.trainings[0].config:
    holds = f"{arms}, {run.finished_arms} finished"
  else:
    holds = f"{arms}, only their numbers are here"
  report = "no report yet"
  if run.result is not None:
    report = "reported" if run.reported else "the report is of another config"
  return [
    app.printable(str(run.root)),
    f"  {run.experiment or 'unknown experiment'}{preset}: {holds}; {report}",
    f"  {size(taken)} on disk, last change {date(changed)}",
  ]


def config_lines(config: Mapping[str, Any]) -> list[str]:
  """The settings that are on, one a line; a long config ends with a count."""
  found = flattened(config)
  widest = max(map(len, found), default=0)
  room = max(_WIDTH - widest - 4, 20)
  lines = [
    f"  {name:{widest}}  {middle(shown(value), room)}"
    for name, value in found.items()
  ]
  if len(lines) > _SETTINGS:
    more = len(lines) - _SETTINGS
    lines[_SETTINGS:] = [f"  and {more} more in config.json"]
  return lines


def training_table(run: Run) -> reporting.Rows:
  """One row a training: seeds, steps, status and held-out loss."""
  rows = [
    ["setting", "variant", "seeds", "steps", "status", "mean loss [95%]", "n"]
  ]
  for each in sorted(run.trainings, key=lambda each: _order(run, each)):
    steps = str(each.done) if each.finished else f"{each.done}/{each.steps}"
    losses = list(each.losses.values())
    rows.append(
      [
        each.setting,
        each.variant,
        spans(each.seeds) or _OFF,
        steps if each.steps is not None else _OFF,
        status(each),
        mean(losses),
        str(len(losses)) if each.finished else _OFF,
      ]
    )
  return without_empty(rows)


def _order(run: Run, training: Training) -> tuple[Any, ...]:
  """By setting, then in the order in which the config names the variants."""
  variants = run.config.get("variants")
  named = variants if isinstance(variants, list) else []
  variant = training.variant
  place = named.index(variant) if variant in named else len(named)
  return (
    training.setting,
    place,
    variant,
    training.steps or 0,
    training.seeds,
  )


def status(training: Training) -> str:
  """How far a training is, and which of its seeds diverged."""
  if training.problem:
    return "damaged"
  if training.diverged:
    return f"finished; diverged: seeds {spans(training.diverged)}"
  if training.finished:
    return "finished"
  return f"stopped at step {training.done}" if training.done else "begun"


def checkpoints_line(run: Run) -> str:
  """How many checkpoints a run has."""
  count = sum(each.checkpoints for each in run.trainings)
  if not count:
    return "no checkpoints"
  taken = size(inventory.checkpoint_bytes(run))
  return f"{counted(count, 'checkpoint')}, {taken}"


def claims_table(run: Run) -> reporting.Rows:
  """The first claims of a report with their verdicts; empty for none."""
  claims = run.result["claims"] if run.result else []
  rows = [["claim", "estimate", "95% interval", "n", "verdict"]]
  for claim in claims[:_CLAIMS]:
    low, high = (_number(end) for end in claim["ci95"])
    rows.append(
      [
        claim["id"],
        f"{_number(claim['estimate'])} {claim['unit']}",
        _OFF if _OFF in (low, high) else f"[{low}, {high}]",
        str(claim["n"]),
        claim["verdict"],
      ]
    )
  if len(claims) > _CLAIMS:
    more = f"and {len(claims) - _CLAIMS} more in report.md"
    rows.append([more, "", "", "", ""])
  return rows if claims else []


def _number(value: float | None) -> str:
  return _OFF if value is None else reporting.number(value)


def next_steps(run: Run) -> Iterator[str]:
  """What can be done with a run whose arms are here, in plain words."""
  if not run.trainings or not run.trainings[0].config or run.problems:
    return
  folder = app.printable(str(run.root))
  if not all(each.finished for each in run.trainings):
    yield f"continue: the same command with --out={folder}"
    return
  if not run.reported:
    yield f"write the report: the same command with --out={folder}"
  claims = run.result["claims"] if run.result else []
  count = len(run.seeds)
  needed = [claim.get("seeds_needed", 0) for claim in claims]
  more = max([n for n in needed if n > count], default=2 * count)
  yield f"add seeds: the same command with --seeds={more}"
  train = run.config.get("train")
  if isinstance(train, dict) and train.get("schedule") == "wsd" and run.steps:
    longer = 2 * run.steps[-1]
    yield f"train longer: the same command with --steps={longer}"
  if any(claim["verdict"] == "inconclusive" for claim in claims):
    yield f"plan seeds: python -m experiments.placebo --plan={folder}"


def middle(text: str, most: int | None) -> str:
  """Text without its middle if it is longer than `most`; None for any."""
  if most is None or len(text) <= most:
    return text
  kept = max(most - 1, 2)
  return f"{text[: (kept + 1) // 2]}…{text[-(kept // 2) :]}"


def size(count: float) -> str:
  """A number of bytes, in units of 1024, as `ls -h` shows them."""
  units = ["B", "K", "M", "G", "T"]
  while count >= 1000 and len(units) > 1:
    count /= 1024
    del units[0]
  digits = 1 if count < 10 and units[0] != "B" else 0
  return f"{count:.{digits}f}{units[0]}"


def date(seconds: float) -> str:
  """A time, in this machine's zone, with date and minutes."""
  return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "minutes")


def shown(value: Any) -> str:
  """A setting's value in one line; long ones lose their middle."""
  if value is None:
    return _OFF
  if isinstance(value, list):
    text = ", ".join(map(shown, value))
  elif isinstance(value, bool):
    text = str(value).lower()
  elif isinstance(value, float):
    text = f"{value:g}"
  else:
    text = str(value)
  return middle(" ".join(text.split()), _VALUE)


def mean(values: Sequence[float]) -> str:
  """The mean of losses with its 95% t interval, if there are two or more."""
  if len(values) == 1:
    return reporting.number(values[0])
  return reporting.mean(np.asarray(values, np.float64))


def without_empty(rows: reporting.Rows) -> reporting.Rows:
  """A table without the columns in which every row is empty."""
  kept = [
    place
    for place in range(len(rows[0]))
    if any(row[place] for row in rows[1:])
  ]
  return [[row[place] for place in kept] for row in rows]
