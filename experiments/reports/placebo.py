"""The report of `placebo`: how often intervals contain the truth."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from experiments.common.results_writer import Results, seed_cells
from experiments.common.study import Study
from jaxlook import reporting, stats
from jaxlook.lookahead.placebo import (
  Coverage,
  Losses,
  coverage,
  window_coverage,
)
from jaxlook.numerals import counted
from jaxlook.runs.json_files import read_json
from jaxlook.runs.result_schema import validate_result
from jaxlook.stats import crossed, myopia_gap

# The rates that count as 95%.
_NOMINAL = {"low": 0.92, "high": 0.98}
# An interval for text in general may be too wide where windows hardly matter.
_AT_LEAST = {"low": 0.92}

_SIMULATED_SEEDS = (2, 3, 4, 8)
_SIMULATED_WINDOWS = (16, 64, 256)
_SIMULATED_SHARES = {
  "seeds": (0.9, 0.05, 0.05),
  "windows": (0.05, 0.9, 0.05),
  "rest": (0.05, 0.05, 0.9),
}


def results(study: Study, losses: Losses) -> Results:
  """Counts how often the intervals contain the truth.

  Args:
    study: what was trained.
    losses: held-out losses of both data orders.

  Returns:
    The results to write.
  """
  shared, own = losses
  differences = shared[0] - shared[1]
  own_loss = float(np.nanmean(own[0]))
  counts = {
    "same windows": coverage(shared),
    "own windows": window_coverage(own[0] - own[1]),
    "loss": window_coverage(own[0], own_loss),
  }
  return Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    notes=(
      "The differences have a standard deviation of"
      f" {math.sqrt(np.nanvar(differences)):.2g} {study.unit}; their mean over"
      f" {counted(differences.size, 'pair')} is {np.nanmean(differences):.2g}.",
      "Cells are means over repetitions.",
      f"Windows: every model is evaluated on {own.shape[-1]} held-out sequences"
      " that all models share, and on as many that its repetition drew for"
      " itself. For the loss on the latter, the truth is the mean of all"
      f" repetitions, {own_loss:.4g} {study.unit}: other seeds and other"
      " sequences.",
      "The simulated values are the sum of an effect of the seed, an effect of"
      " the window and a rest. One of them makes up 90% of the variance of the"
      " mean, the other two 5% each. Numbers are rates over"
      f" {counted(shared.shape[1], 'repetition')}.",
    ),
    tables={
      "Cover of the difference, which is 0": table(counts["same windows"]),
      "The same on windows of each repetition": table(counts["own windows"]),
      "Cover of the loss of one order on text in general": table(
        counts["loss"]
      ),
      "Cover of simulated effects": simulated(shared.shape[1]),
    },
    claims=claims(counts),
    cells=seed_cells(
      {
        myopia_gap.CAUSAL: {
          seed: {
            "loss": float(np.nanmean(shared[0, :, seed])),
            "loss_other_order": float(np.nanmean(shared[1, :, seed])),
          }
          for seed in study.problem.seeds
        }
      }
    ),
    measurements=measurements(losses),
  )


def claims(counts: Mapping[str, Mapping[str, Coverage]]) -> list[stats.Claim]:
  """Whether each kind of interval covers at its nominal rate.

  Args:
    counts: coverage by what was covered and kind of interval; see `results`.
  """
  zero, text = "a difference that is zero", "the loss on text in general"
  rows = (
    ("t", counts["same windows"]["t"], zero, _NOMINAL),
    ("bootstrap", counts["same windows"]["bootstrap"], zero, _NOMINAL),
    ("two-way", counts["own windows"]["two-way"], zero, _AT_LEAST),
    ("t/loss", counts["loss"]["t"], text, _AT_LEAST),
    ("two-way/loss", counts["loss"]["two-way"], text, _AT_LEAST),
  )
  return [
    stats.claim(
      id,
      f"the 95% {id.split('/')[0]} interval of {what} contains the truth in"
      f" {_range(bounds)} of the repetitions; n counts repetitions",
      "jaxlook's own",
      "rate",
      found.interval,
      **bounds,
    )
    for id, found, what, bounds in rows
  ]


def _range(bounds: Mapping[str, float]) -> str:
  if "high" in bounds:
    return f"{bounds['low']:.0%} to {bounds['high']:.0%}"
  return f"at least {bounds['low']:.0%}"


def table(counts: Mapping[str, Coverage]) -> reporting.Rows:
  """How often each kind of interval contains the truth, one kind per row."""
  rows = [["interval", "contains it", "above", "below", "rate", "95%", "n"]]
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


def simulated(repetitions: int) -> reporting.Rows:
  """How often the intervals contain the mean of simulated effects.

  Args:
    repetitions: of each layout.

  Returns:
    One row for each distribution, dominating effect and number of seeds.
  """
  kinds = ("t", "two-way")
  rows = [
    ["effects", "dominate", "seeds"]
    + [f"{kind}, W={count}" for kind in kinds for count in _SIMULATED_WINDOWS]
  ]
  rng = np.random.default_rng(0)
  for effects, (name, shares), seeds in itertools.product(
    crossed.EFFECTS, _SIMULATED_SHARES.items(), _SIMULATED_SEEDS
  ):
    found = [
      crossed.coverage(
        crossed.Crossed(effects, seeds, windows, shares), rng, repetitions
      )
      for windows in _SIMULATED_WINDOWS
    ]
    rows.append(
      [effects, name, str(seeds)]
      + [f"{each[kind] / repetitions:.3f}" for kind in kinds for each in found]
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


def measurements(losses: Losses) -> pa.Table:
  """The mean losses of every repetition and seed, one pair per row."""
  _, repetitions, seeds = losses.shared.shape
  own = losses.own.mean(axis=-1)
  return pa.table(
    {
      "repetition": np.repeat(np.arange(repetitions), seeds),
      "seed": np.tile(np.arange(seeds), repetitions),
      "loss": losses.shared[0].reshape(-1),
      "loss_other_order": losses.shared[1].reshape(-1),
      "own_loss": own[0].reshape(-1),
      "own_loss_other_order": own[1].reshape(-1),
    }
  )
