"""What do my run folders hold, and how do they differ?

    python -m experiments.runs list [FOLDER...]
    python -m experiments.runs show RUN...
    python -m experiments.runs compare RUN RUN...

`list` shows one row for each run in the folders, by default in `runs`, up to
three levels deep: arms finished/begun, seeds, steps, and whether the report is
there ("old": it is of another config).

`show` shows the config, how far each training is, its held-out loss, the
checkpoints, the verdicts, and what can be done next.

`compare` shows which settings differ, the loss of every arm in each run, the
differences from the first run, and the gap of every variant against causal.
Differences are paired by seed where task, data, model and seeds agree, and
otherwise marked as unpaired.

Reads only, also while a run is being trained. Takes seconds.
"""

import string
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import console

from experiments.common import app, define_flags, faults
from experiments.reports import runs as report
from experiments.reports import runs_compared as compared
from jaxlook.runs import inventory
from jaxlook.runs.inventory import Run

_DEFAULT = "runs"


def main(*arguments: str) -> None:
  """Does what the first argument says with the folders that follow."""
  commands: dict[str, Callable[[Sequence[Path]], int]] = {
    "list": list_runs,
    "show": show_runs,
    "compare": compare_runs,
  }
  command, *names = arguments or ("",)
  if command not in commands:
    said = f"not {app.shortened(command)!r}" if command else "and then folders"
    raise app.UsageError(None, f"give list, show or compare, {said}")
  if not all(names):
    raise app.UsageError(None, f"{command}: the name of a folder is empty")
  try:
    folders = [Path(define_flags.expand_home(name)) for name in names]
  except ValueError as error:
    raise app.UsageError(None, str(error)) from error
  least = {"list": 0, "show": 1, "compare": 2}[command]
  if len(folders) < least:
    needs = "a run folder" if least == 1 else "two run folders or more"
    raise app.UsageError(None, f"{command} needs {needs}")
  status = commands[command](folders or [Path(_DEFAULT)])
  if status:
    sys.exit(status)


def list_runs(folders: Sequence[Path]) -> int:
  """Prints one row a run; returns the exit status."""
  status, roots = 0, []
  for folder in folders:
    try:
      roots += inventory.find_runs(folder)
    except ValueError as error:
      status = max(status, _say(error))
  entries = []
  for root in dict.fromkeys(roots):
    try:
      entries.append((root, inventory.read_run(root)))
    except (ValueError, OSError) as error:
      entries.append((root, faults.line(error) or str(error)))
  if entries:
    terminal = console.Console()
    width = terminal.width if terminal.is_terminal else None
    print("\n".join(report.listing(entries, width)))
  elif not status:
    print(f"no runs in {', '.join(app.printable(str(f)) for f in folders)}")
  return status


def show_runs(folders: Sequence[Path]) -> int:
  """Prints what each run holds; returns the exit status."""
  status = 0
  for folder in folders:
    try:
      run = inventory.read_run(folder)
    except (ValueError, OSError) as error:
      status = max(status, _say(error))
      continue
    _show(run)
    status = max(status, _say_problems(run))
  return status


def _show(run: Run) -> None:
  """Prints what one run holds."""
  print("\n".join([*report.heading(run), "", "Config"]))
  print("\n".join([*report.config_lines(run.config), ""]))
  if run.trainings:
    app.print_table("Trainings", report.training_table(run))
    print(f"{report.checkpoints_line(run)}\n")
  if claims := report.claims_table(run):
    app.print_table("Verdicts of the report", claims)
  if steps := list(report.next_steps(run)):
    print("\n".join(["Next", *(f"  {step}" for step in steps), ""]))


def compare_runs(folders: Sequence[Path]) -> int:
  """Prints how runs differ; returns the exit status."""
  if len(folders) > len(string.ascii_uppercase):
    raise app.UsageError(None, "compare takes at most 26 run folders")
  status, runs = 0, {}
  for name, folder in zip(string.ascii_uppercase, folders, strict=False):
    try:
      runs[name] = inventory.read_run(folder)
      status = max(status, _say_problems(runs[name]))
    except (ValueError, OSError) as error:
      status = max(status, _say(error))
  if status:
    return status
  for name, run in runs.items():
    print(f"{name}  {app.printable(str(run.root))}")
  print(f"\n{compared.EXPLORATORY}\n")
  tables = {
    "Settings that differ": compared.config_table(runs),
    "Held-out loss": compared.loss_table(runs),
    "Gap against causal, paired by seed": compared.gap_table(runs),
  }
  for title, rows in tables.items():
    if len(rows) > 1:
      app.print_table(title, rows)
    else:
      print(f"{title}: none\n")
  return 0


def _say_problems(run: Run) -> int:
  """Says in one line what is damaged in a run; returns the exit status."""
  if not run.problems:
    return 0
  said = report.wrong(run.root, run)
  return _say(ValueError(f"{run.root} is damaged: {said}"))


def _say(error: Exception) -> int:
  """Says in one line what is wrong with a folder; returns the exit status."""
  said = faults.line(error) or " ".join(str(error).split())
  sys.stdout.flush()
  print(said, file=sys.stderr, flush=True)
  return faults.FAILED if isinstance(error, OSError) else faults.BAD_INPUT


if __name__ == "__main__":
  app.run(main, arguments=True)
