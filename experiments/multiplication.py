"""Does padding help multiplication where the future cannot ask for work?

    python -m experiments.multiplication [--preset=smoke|cpu|paper] [--out=DIR]
        [--digits=N] [--pad=0 --pad=N ...] [--attention=... (repeatable)]

Operands are written with the lowest digit first and filled up with zeros. The
zeros say nothing, but at their positions a model can work out the product
before it is asked for. In the published runs padding helps ordinary training
and harms the myopic one.

Arms: causal and both myopic cuts, on operands of up to n digits, filled up to n
and to 2n as published.

Writes loss and accuracy by digit and by lengths of the operands, the beam gain,
which digits a linear probe reads before `=`, and how often the written digits
become those of another product when the stream on the padding is swapped for
its. `cpu` takes about 8 minutes on two cores.

`paper` has the published sizes and needs an accelerator; with `--digits=8
--pad=8 --pad=16` those of larger operands. The published runs computed in
bfloat16; this one computes in float32 unless `--bfloat16` is given.
"""

import itertools

from experiments.common import (
  app,
  define_flags,
  presets,
  results_writer,
  run_folder,
  shared_flags,
  train_arms,
)
from experiments.reports import multiplication as report
from experiments.setups import multiplication_setup
from jaxlook.planning.products import measures
from jaxlook.planning.products.measures import ProductResults, ProductSizes
from jaxlook.stats import myopia_gap
from jaxlook.tasks.multiplication import Multiplication
from jaxlook.training import FinishedArm, held_out_key

shared_flags.adopt(__name__, *shared_flags.TRAIN, but=("length",))

DIGITS = define_flags.whole("digits", None, "Most digits of an operand.")
PAD = define_flags.wholes(
  "pad",
  None,
  "Digits that operands are filled up to, 0 for no filling; repeat with rising"
  " values, at least two.",
)


def measure(
  arm: FinishedArm,
  task: Multiplication,
  sizes: ProductSizes,
  *,
  step: int | None = None,
) -> ProductResults:
  """Measures an arm's models after training, or all of them at step 0."""
  saved = arm.saved()
  return measures.measure(
    saved.decoder,
    task,
    saved.params(step),
    held_out_key(),
    sizes,
    None if step == 0 else arm.alive,
  )


def main() -> None:
  """Checks the flags, trains what is missing, measures and reports."""
  held = run_folder.held("multiplication")
  config = multiplication_setup.build_config(DIGITS.value, PAD.value, held)
  problems = multiplication_setup.problems(config)
  variants = train_arms.variants_that_only_cut(
    myopia_gap.CUTS, problems[0].model, held
  )
  with train_arms.open_experiment(
    "multiplication", variants, config, problems
  ) as store:
    trained = train_arms.train_all(
      store, list(itertools.product(problems, variants))
    )
    arms = {(arm.setting, arm.variant): arm for arm in trained}
    tasks = config.tasks()
    found = {
      (setting, variant): measure(arm, tasks[setting], config.sizes)
      for (setting, variant), arm in arms.items()
    }
    untrained = {
      setting: measure(
        arms[setting, myopia_gap.CAUSAL], task, config.sizes, step=0
      )
      for setting, task in tasks.items()
    }
    frequency = multiplication_setup.frequency_loss(problems[0])
    results_writer.write(
      store,
      report.results(config, arms, found, untrained, frequency),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: presets.values(
      multiplication_setup.PRESETS, attention=myopia_gap.CUTS
    ),
  )
