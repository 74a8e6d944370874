"""Table, cells and figure of the decoding benchmark."""

import numpy as np

from experiments.benchmarks import timing, timing_tables
from experiments.benchmarks.decoding_times import (
  WAYS,
  DecodingConfig,
  DecodingTimes,
  contender,
)
from experiments.common import results_writer
from jaxlook import stats
from jaxlook.reporting import figures

FIGURE = "tokens.png"


def results(
  config: DecodingConfig,
  found: DecodingTimes,
  *,
  name: str,
  setup: str,
) -> results_writer.Results:
  """Collects table, figure and cells.

  Args:
    config: what was timed.
    found: its times.
    name: of the benchmark.
    setup: what was timed, in a line.

  Returns:
    The results, to be written.
  """
  samples = {
    (f"{steps} tokens", each): times for (steps, each), times in found.items()
  }
  return results_writer.Results(
    name=name,
    title="Decoding with and without a cache",
    setup=setup,
    notes=[
      "Tokens are those of all prompts together, without those that a beam"
      f" search examined and dropped. {timing_tables.RATIO_NOTE}",
    ],
    tables={"Tokens a second": _rate_table(config, found)},
    figures={
      FIGURE: results_writer.Drawing(
        lambda path: figures.panels_figure(
          path,
          [[panel(config, found)]],
          title="What a cache saves",
          setup=setup,
        ),
        f"{setup}. Mean over rounds with 95% t intervals; more is better.",
      )
    },
    cells=[
      timing_tables.cell(setting, each, timing_tables.time_metrics(times))
      for (setting, each), times in samples.items()
    ],
    measurements=timing_tables.samples_table(samples),
  )


def speedup(found: DecodingTimes, steps: int, way: str) -> stats.Interval:
  """Tokens a second with a cache over those without."""
  cached, anew = (found[steps, contender(way, c)] for c in (True, False))
  return timing.ratio(anew.seconds, cached.seconds)


def _rate_table(
  config: DecodingConfig, found: DecodingTimes
) -> list[list[str]]:
  """One row a number of tokens and contender."""
  rows = [["tokens", "how", "tokens/s", "median ms", "quartiles ms"]]
  rows[0] += ["busy cores", "tokens/s over anew", "n"]
  for steps in config.steps:
    for way in WAYS:
      for cached in (True, False):
        name = contender(way, cached)
        times = found[steps, name]
        ratio = "1"
        if cached:
          ratio = timing_tables.ratio_text(speedup(found, steps, way))
        rate = config.batch * steps / times.median
        rows.append(
          [str(steps), name, f"{rate:.4g}", *timing_tables.time_columns(times)]
          + [ratio, str(len(times.seconds))]
        )
  return rows


def panel(config: DecodingConfig, found: DecodingTimes) -> figures.Curves:
  """Tokens a second against tokens added."""
  names = [contender(way, cached) for way in WAYS for cached in (True, False)]
  return figures.Curves(
    "Decoding",
    np.array(config.steps),
    "tokens added",
    "tokens a second",
    {
      name: np.stack(
        [config.batch * n / found[n, name].seconds for n in config.steps]
      )
      for name in names
    },
    scale="steps",
  )
