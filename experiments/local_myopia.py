"""What does the present gain when a network owes nothing to the future?

    python -m experiments.local_myopia [--task=precache|text]
        [--preset=smoke|cpu|paper] [--out=DIR]

Trains a vanilla model and freezes it. Then trains a local myopic model of the
same shape from scratch, which reads the vanilla model's keys and values as its
context, for both stop points. Writes the local myopia bonus beside the myopia
gap, and the losses of both models' weights on both models' contexts.
"""

from collections.abc import Collection

from experiments.common import (
  app,
  results_writer,
  shared_flags,
  study_setup,
  train_arms,
)
from experiments.common.study import Study
from experiments.reports import local_myopia as report
from jaxlook.lookahead import local_myopia
from jaxlook.stats import myopia_gap
from jaxlook.training import SavedArm, Teacher, held_out_key

shared_flags.adopt(
  __name__, *shared_flags.STUDY, but=("attention", "model", "step")
)

TRAINED = (myopia_gap.CAUSAL, myopia_gap.RESIDUAL, myopia_gap.KV)


def cross_contexts(
  study: Study,
  vanilla: SavedArm,
  local: SavedArm,
  seeds: Collection[int],
) -> report.CrossedLosses:
  """Evaluates the weights of two arms on the contexts of both.

  Args:
    study: the task and its held-out data.
    vanilla: the causal arm.
    local: the arm that was trained to read it.
    seeds: those to keep.

  Returns:
    Losses by a name that says whose weights and context, and by seed.
  """
  teacher = Teacher(vanilla.params(), vanilla.decoder)
  found = local_myopia.cross_contexts(
    study.problem.task,
    study.problem.train,
    teacher,
    Teacher(local.params(), local.decoder, teacher),
    key=held_out_key(),
    fed=study.problem.held_out,
  )
  return {
    f"{weights} weights, {context} context": {
      seed: float(loss)
      for seed, loss in zip(vanilla.seeds, losses, strict=True)
      if seed in seeds
    }
    for (weights, context), losses in found.items()
  }


def main() -> None:
  """Checks the flags, then trains and reports."""
  study = study_setup.build(
    "local_myopia", "The local myopia bonus beside the myopia gap", TRAINED
  )
  problem = study.problem
  local = train_arms.named_variants(report.LOCAL, problem.model)
  with study.open_run() as store:
    arms = train_arms.train_with_teachers(
      store, [(problem, variant) for variant in (*study.variants, *local)]
    )
    saved = {arm.variant: arm.saved() for arm in arms}
    cells = [cell for arm in arms for cell in arm.cells]
    losses = myopia_gap.by_variant(cells, "loss")
    crossed = {
      stop: cross_contexts(
        study,
        saved[myopia_gap.CAUSAL],
        saved[name],
        losses[myopia_gap.CAUSAL].keys() & losses[name].keys(),
      )
      for stop, name in zip(report.STOPS, report.LOCAL, strict=True)
    }
    results_writer.write(store, report.results(study, cells, crossed))


if __name__ == "__main__":
  app.run(main, study_setup.values, says=study_setup.TRAINING_SAYS)
