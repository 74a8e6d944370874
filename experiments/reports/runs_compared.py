"""What `experiments.runs compare` says: configs, losses and gaps of runs."""

import dataclasses
from collections.abc import Iterator, Mapping

from experiments.reports.runs import mean, shown, without_empty
from jaxlook import reporting, stats
from jaxlook.runs.inventory import Run, Training
from jaxlook.runs.run_settings import changed_settings, pairing_faults
from jaxlook.stats import myopia_gap

EXPLORATORY = (
  "Exploratory: nothing here was predicted, and no interval is adjusted."
)
_REASONS = 2


@dataclasses.dataclass(frozen=True)
class _Losses:
  """The losses of an arm of a run after some number of steps."""

  run: Run
  training: Training
  by_seed: Mapping[int, float]


def config_table(runs: Mapping[str, Run]) -> reporting.Rows:
  """One row a setting that is not the same in all runs.

  Args:
    runs: by the name that tables call them.

  Returns:
    A header and the rows; settings that are off are "-".
  """
  changed = changed_settings([run.config for run in runs.values()])
  rows = [["setting", *runs]]
  for name, values in changed.items():
    rows.append([name, *map(shown, values)])
  return rows


def loss_table(runs: Mapping[str, Run]) -> reporting.Rows:
  """The losses of every arm that two or more runs have, and differences.

  Args:
    runs: see `config_table`. Each is compared with the first that has the arm:
      paired by seed if task, data, model and at least two seeds agree.

  Returns:
    A header and the rows.
  """
  rows = [
    ["setting", "variant", "run", "steps", "n", "mean loss [95%]"]
    + ["minus first [95%]", "pairing"]
  ]
  for arm in _arms(runs):
    found = _at_common_steps(_of_runs(runs, arm))
    if len(found) < 2:
      continue
    first = next(iter(found.values()))
    for name, losses in found.items():
      difference = ["", "first"]
      if losses is not first:
        difference = list(_difference(losses, first))
      rows.append(
        [
          *arm,
          name,
          _steps(losses.training),
          str(len(losses.by_seed)),
          mean(list(losses.by_seed.values())),
          *difference,
        ]
      )
  return without_empty(rows)


def gap_table(runs: Mapping[str, Run]) -> reporting.Rows:
  """The gap of every variant against causal in every run, paired by seed.

  Args:
    runs: see `config_table`.

  Returns:
    A header and the rows, for variants with two seeds or more.
  """
  rows = [["setting", "variant - causal", "run", "steps", "n", "gap [95%]"]]
  for setting, variant in _arms(runs):
    if variant == myopia_gap.CAUSAL:
      continue
    for name, run in runs.items():
      found = _at_common_steps(
        {
          each: losses
          for each in (variant, myopia_gap.CAUSAL)
          if (losses := _of_run(run, (setting, each)))
        }
      )
      if len(found) < 2:
        continue
      cut, causal = found.values()
      if len(cut.by_seed.keys() & causal.by_seed.keys()) < 2:
        continue
      gap = stats.compare(cut.by_seed, causal.by_seed)
      rows.append(
        [
          *(setting, variant, name, _steps(cut.training), str(gap.n)),
          _estimate(gap),
        ]
      )
  return without_empty(rows)


def _arms(runs: Mapping[str, Run]) -> list[tuple[str, str]]:
  """Setting and variant of every arm, in the order of the first run."""
  return list(dict.fromkeys(arm for run in runs.values() for arm in run.arms))


def _of_runs(
  runs: Mapping[str, Run], arm: tuple[str, str]
) -> dict[str, dict[int | None, _Losses]]:
  """By run and steps, the losses of an arm; no entry for runs without any."""
  return {
    name: losses for name, run in runs.items() if (losses := _of_run(run, arm))
  }


def _of_run(run: Run, arm: tuple[str, str]) -> dict[int | None, _Losses]:
  """By steps, the losses of an arm of a run, of all its finished trainings."""
  found: dict[int | None, _Losses] = {}
  for each in run.arms.get(arm, ()):
    if each.losses:
      before = found[each.steps].by_seed if each.steps in found else {}
      found[each.steps] = _Losses(run, each, {**before, **each.losses})
  return found


def _at_common_steps(
  found: Mapping[str, Mapping[int | None, _Losses]],
) -> dict[str, _Losses]:
  """The losses after the most steps that all have, or else each one's most."""
  steps = [set(each) for each in found.values()]
  common = set.intersection(*steps) if steps else set()
  return {
    name: each[max(common or each, key=lambda step: step or 0)]
    for name, each in found.items()
  }


def _difference(losses: _Losses, first: _Losses) -> Iterator[str]:
  """The difference with its interval, and how it was paired."""
  faults = pairing_faults(
    (losses.run, losses.training), (first.run, first.training)
  )
  if not faults:
    if len(losses.by_seed.keys() & first.by_seed.keys()) > 1:
      found = stats.compare(losses.by_seed, first.by_seed)
      yield _estimate(found)
      yield f"{found.pairing}, n={found.n}"
      return
    faults = ["seeds"]
  if min(len(losses.by_seed), len(first.by_seed)) > 1:
    yield _estimate(
      stats.unpaired(
        list(losses.by_seed.values()), list(first.by_seed.values())
      )
    )
  else:
    yield "-"
  reasons = ", ".join(faults[:_REASONS])
  more = len(faults) - _REASONS
  yield f"unpaired: other {reasons}" + (f" and {more} more" if more > 0 else "")


def _estimate(found: stats.Interval) -> str:
  return f"{reporting.number(found.estimate)} {reporting.interval(found.ci95)}"


def _steps(training: Training) -> str:
  return "-" if training.steps is None else str(training.steps)
