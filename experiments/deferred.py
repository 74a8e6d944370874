"""The unit test of pre-caching on discrete data: asked for d steps later.

    python -m experiments.deferred [--preset=smoke|cpu|paper] [--out=DIR]
        [--delay=4] [--horizons=0,1,2,4]

A function of two neighbouring tokens can be computed as soon as they are read,
has no use there, and is asked for d steps later, as a sum over several such
pairs (`jaxlook.tasks.deferred`). Gradient from a query reaches the first
block's output up to h (layers - 1) positions back. The gap must therefore be
whole where that is below d, and must be gone from the farthest pair on.

Arms: gradient horizons for both stop points, at two depths or more. Writes the
loss against h, the fraction of the myopia gap that each h closes, and verdicts
on both bounds. `cpu` takes about 10 minutes on two cores.
"""

from experiments.common import (
  app,
  define_flags,
  presets,
  results_writer,
  run_folder,
  shared_flags,
  train_arms,
)
from experiments.reports import deferred as report
from experiments.setups import deferred_setup

shared_flags.adopt(
  __name__, *shared_flags.TRAIN, "horizons", but=("attention", "layers")
)

_DELAY = define_flags.whole(
  "delay", None, "Positions after which a pair of tokens is asked for, d."
)


def main() -> None:
  """Checks the flags, then trains what is missing and reports."""
  config = deferred_setup.build_config(
    _DELAY.value, run_folder.held("deferred")
  )
  problems = [deferred_setup.problem(config, depth) for depth in config.depths]
  todo = [
    (problem, variant)
    for problem in problems
    for variant in config.sweep().variants(
      problem.model.layers, problem.model.heads
    )
  ]
  variants = [variant for problem, variant in todo if problem is problems[0]]
  with train_arms.open_experiment(
    "deferred", variants, config, problems
  ) as store:
    arms = train_arms.train_all(store, todo)
    cells = [cell for arm in arms for cell in arm.cells]
    results_writer.write(store, report.results(config, cells))


if __name__ == "__main__":
  app.run(main, lambda: presets.values(deferred_setup.PRESETS))
