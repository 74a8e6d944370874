"""Table, cells, claims and figure of the benchmark of reading text."""

import numpy as np

from experiments.benchmarks import timing, timing_tables
from experiments.benchmarks.feeding_times import (
  BOTH,
  CONTENDERS,
  READ,
  STEPS,
  FeedingConfig,
  FeedingTimes,
)
from experiments.common import results_writer
from jaxlook import stats
from jaxlook.reporting import figures

FIGURE = "chunk.png"
TITLE = "Reading text against training on it"
# The targets: greatest ratio to the time of the steps alone, and what it is of.
_TARGETS = {
  READ: (0.05, "reading a chunk's windows takes at most"),
  BOTH: (1.05, "steps during which the host reads take at most"),
}


def results(
  config: FeedingConfig,
  found: FeedingTimes,
  *,
  name: str,
  setup: str,
) -> results_writer.Results:
  """Collects table, figure, cells and claims.

  Args:
    config: what was timed.
    found: its times.
    name: of the benchmark.
    setup: what was timed, in a line.

  Returns:
    The results, to be written.
  """
  judged = claims(found)
  return results_writer.Results(
    name=name,
    title=TITLE,
    setup=setup,
    notes=[
      "Times are of a chunk of steps. The host reads the windows of the next"
      " chunk while the device works on one, so reading delays training only"
      " where it takes longer than the steps. On a CPU both use the same cores."
      f" {timing_tables.RATIO_NOTE}",
    ],
    tables={"Reading and steps": _times_table(config, found)},
    figures={
      FIGURE: results_writer.Drawing(
        lambda path: figures.panels_figure(
          path,
          [[_panel(model, found) for model in config.models]],
          title=TITLE,
          setup=setup,
        ),
        f"{setup}. Mean over rounds with 95% t intervals; less is better.",
      )
    },
    cells=[
      timing_tables.cell(model, each, timing_tables.time_metrics(times))
      for (model, each), times in found.items()
    ],
    claims=judged,
    claim_tables=timing_tables.target_tables(judged),
    measurements=timing_tables.samples_table(found),
  )


def over_steps(
  found: FeedingTimes, model: str, contender: str
) -> stats.Interval:
  """The time of a contender over that of the steps alone."""
  return timing.ratio(
    found[model, contender].seconds, found[model, STEPS].seconds
  )


def claims(found: FeedingTimes) -> list[stats.Claim]:
  """Whether reading is short, and hidden behind the steps."""
  return [
    stats.claim(
      f"{contender} / {STEPS} <= {most:g}, {model}",
      f"{words} {most:g} of the time of steps whose windows were read before; n"
      " counts rounds",
      timing_tables.TARGET_SOURCE,
      "ratio",
      over_steps(found, model, contender),
      high=most,
    )
    for model in dict.fromkeys(model for model, _ in found)
    for contender, (most, words) in _TARGETS.items()
  ]


def _times_table(config: FeedingConfig, found: FeedingTimes) -> list[list[str]]:
  """One row a model and contender."""
  rows = [["model", "what", "median ms", "quartiles ms", "busy cores"]]
  rows[0] += ["windows/s", "over the steps", "n"]
  windows = config.chunk * config.seeds * config.batch
  for (model, contender), times in found.items():
    ratio = timing_tables.ratio_text(over_steps(found, model, contender))
    rows.append(
      [model, contender, *timing_tables.time_columns(times)]
      + [f"{windows / times.median:.4g}", ratio, str(len(times.seconds))]
    )
  return rows


def _panel(model: str, found: FeedingTimes) -> figures.Curves:
  """Time of a chunk by contender."""
  seconds = [found[model, each].seconds for each in CONTENDERS]
  return figures.Curves(
    model,
    CONTENDERS,
    "",
    "ms a chunk",
    {"a chunk": 1e3 * np.stack(seconds)},
    scale="steps",
  )
