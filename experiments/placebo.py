"""Do the intervals cover as often as they promise? How many seeds do I need?

    python -m experiments.placebo [--preset=smoke|cpu|paper] [--seeds=4]
        [--repetitions=1000] [--out=DIR]
    python -m experiments.placebo --plan=RUN

Compares causal training with itself on another data order, paired by initial
weights, in many repetitions with tiny models on the pre-caching task. The true
difference is zero, so 95% of the comparisons should come out "inconclusive".

Writes how often the t and the bootstrap interval contain zero, and every loss.
Each repetition also draws held-out windows of its own. On these, it writes how
often the t interval over seeds and the two-way interval over seeds and windows
contain zero, and the loss on text in general; and the same of simulated values.
`cpu` takes about 2 minutes on two cores.

`--plan` trains nothing. It reads a finished run, and says for every paired
difference of losses how many seeds would settle its sign with 90% power.
"""

from pathlib import Path

from experiments.common import (
  app,
  define_flags,
  memory_check,
  presets,
  results_writer,
  shared_flags,
  study_setup,
)
from experiments.reports import placebo as report
from experiments.setups import placebo_setup
from jaxlook.lookahead import placebo
from jaxlook.models import Decoder

shared_flags.adopt(
  __name__,
  "preset",
  "seeds",
  "out",
  *shared_flags.SHAPE,
  *shared_flags.TRAINING,
  *shared_flags.PRECACHE,
  but=("loss_tokens",),
)

_REPETITIONS = define_flags.whole(
  "repetitions", None, "Number of comparisons.", lower_bound=1
)
_PLAN = define_flags.path(
  "plan", None, "Finished run whose number of seeds to plan; trains nothing."
)


def main() -> None:
  """Checks the flags, then trains and reports, or plans."""
  if _PLAN.value is not None:
    with app.blaming("plan"):
      rows = report.planned(Path(_PLAN.value))
    app.print_table("Seeds for the sign of a difference with 90% power", rows)
    return
  repetitions = _REPETITIONS.value or presets.chosen(placebo_setup.REPETITIONS)
  study = study_setup.build(
    "placebo",
    "Placebo: causal against causal",
    (),
    precache=placebo_setup.PRESETS,
  ).with_config(repetitions=repetitions)
  problem = study.problem
  # Every comparison trains two models a seed, all at once.
  memory_check.check_training(
    problem.model, problem.train, 2 * repetitions * len(problem.seeds)
  )
  with study.open_run() as store:
    losses = placebo.final_losses(
      Decoder(problem.model),
      problem.task,
      problem.train,
      repetitions,
      len(problem.seeds),
    )
    results_writer.write(store, report.results(study, losses))


if __name__ == "__main__":
  app.run(
    main,
    lambda: presets.values(
      placebo_setup.PRESETS,
      repetitions=presets.chosen(placebo_setup.REPETITIONS),
    ),
    says=study_setup.TRAINING_SAYS
    | {
      "preset": "Scale: smoke takes seconds, cpu minutes; paper makes ten times"
      " as many comparisons as cpu.",
      "seeds": "Seeds of each comparison, at least 2.",
    },
  )
