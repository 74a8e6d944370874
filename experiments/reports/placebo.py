"""The report of `placebo`: how often intervals contain the true zero."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from experiments.common.results_writer import Results, seed_cells
from experiments.common.study import Study
from jaxlook import reporting, stats
from jaxlook.lookahead.placebo import Coverage, coverage
from jaxlook.numerals import counted
from jaxlook.runs.json_files import read_json
from jaxlook.runs.result_schema import validate_result
from jaxlook.stats import myopia_gap

# The rates that count as 95%.
_NOMINAL = (0.92, 0.98)


def results(study: Study, losses: np.ndarray) -> Results:
  """Counts how often the intervals contain zero.

  Args:
    study: what was trained.
    losses: held-out losses of both data orders, [2, R, n]; see
      `placebo.final_losses`.

  Returns:
    The results to write.
  """
  counts = coverage(losses)
  differences = losses[0] - losses[1]
  return Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    notes=(
      "The differences have a standard deviation of"
      f" {math.sqrt(np.nanvar(differences)):.2g} {study.unit}; their mean over"
      f" {counted(differences.size, 'pair')} is {np.nanmean(differences):.2g}.",
      "Cells are means over repetitions.",
    ),
    tables={"Cover": table(counts)},
    claims=[claim(kind, found) for kind, found in counts.items()],
    cells=seed_cells(
      {
        myopia_gap.CAUSAL: {
          seed: {
            "loss": float(np.nanmean(losses[0, :, seed])),
            "loss_other_order": float(np.nanmean(losses[1, :, seed])),
          }
          for seed in study.problem.seeds
        }
      }
    ),
    measurements=measurements(losses),
  )


def claim(kind: str, found: Coverage) -> stats.Claim:
  """Whether one kind of interval covers at its nominal rate."""
  low, high = _NOMINAL
  return stats.claim(
    kind,
    f"the 95% {kind} interval of a difference that is zero contains zero in"
    f" {low:.0%} to {high:.0%} of the repetitions; n counts repetitions",
    "jaxlook's own",
    "rate",
    found.interval,
    low=low,
    high=high,
  )


def table(counts: Mapping[str, Coverage]) -> reporting.Rows:
  """How often each kind of interval contains zero, one kind per row."""
  rows = [["interval", "contains 0", "above 0", "below 0", "rate", "95%", "n"]]
  for kind, found in counts.items():
    rate = found.interval
    rows.append(
      [
        kind,
        str(found.covered),
        str(found.above),
        str(found.below),
        reporting.number(rate.estimate),
        reporting.interval(rate.ci95),
        str(rate.n),
      ]
    )
  return rows


def planned(run: Path) -> reporting.Rows:
  """How many seeds would settle the sign of each paired difference of a run.

  Args:
    run: a run folder, or any folder with its result.json.

  Returns:
    One row for each setting and difference.

  Raises:
    ValueError: the folder has no result with losses of two variants and seeds.
  """
  file = run / "result.json"
  try:
    result = read_json(file)
    validate_result(result)
  except FileNotFoundError as error:
    raise ValueError(
      f"{run} has no result.json; give the folder of a finished run"
    ) from error
  except ValueError as error:
    raise ValueError(f"{file} is not the result of a run: {error}") from error
  cells = [cell for cell in result["cells"] if "loss" in cell["metrics"]]
  rows = [["setting", "difference", "estimate", "95%", "n", "seeds"]]
  for setting in dict.fromkeys(cell.get("setting", "") for cell in cells):
    values = myopia_gap.by_variant(cells, "loss", setting)
    for name, found in myopia_gap.differences(values).items():
      needed = stats.seeds_needed(found, low=0.0)
      rows.append(
        [
          setting or "-",
          name,
          reporting.number(found.estimate),
          reporting.interval(found.ci95),
          str(found.n),
          "more than 1000" if needed is None else str(needed),
        ]
      )
  if len(rows) == 1:
    raise ValueError(
      f"{file} has no losses of two variants at two seeds or more"
    )
  return rows


def measurements(losses: np.ndarray) -> pa.Table:
  """The losses of every repetition and seed, one pair per row."""
  _, repetitions, seeds = losses.shape
  return pa.table(
    {
      "repetition": np.repeat(np.arange(repetitions), seeds),
      "seed": np.tile(np.arange(seeds), repetitions),
      "loss": losses[0].reshape(-1),
      "loss_other_order": losses[1].reshape(-1),
    }
  )
