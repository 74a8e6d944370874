"""Does the first step of a path-star answer get planned, and what pays for it?

    python -m experiments.path_star [--preset=smoke|cpu|paper] [--out=DIR]
        [--attention=... (repeatable)] [--setting=... (repeatable)]

Given the true path so far, every step but the first follows from one edge, so
next-token training is said to stay at chance on the first step.

Settings: star graphs in the context (`jaxlook.tasks.path_star`), forward,
reversed, teacherless and masked, and one graph in the weights
(`path_star_weights`), also teacherless. In the weights held-out paths are said
to be found without gradient from later tokens: a prediction for both myopic
cuts, which as far as we found nobody has tested.

Arms: causal and both cuts on forward, reversed and in-weights graphs; causal
alone elsewhere, unless `--attention` names what to train.

Writes, for each setting and variant: loss and accuracy by step under teacher
forcing, whole paths in free writing, the beam gain, linear probes where the
answer starts beside untrained models and shuffled labels, and a causal test:
the residual stream of a prompt that differs in the plan alone is put in at one
place (`jaxlook.planning.stars.questions`), and the answer is written. `cpu`
takes about 16 minutes on two cores.
"""

from typing import cast

from absl import flags

from experiments.common import (
  app,
  presets,
  results_writer,
  run_folder,
  shared_flags,
  train_arms,
)
from experiments.reports import path_star as report
from experiments.setups import path_star_setup
from jaxlook.planning.stars.settings import (
  SETTINGS,
  GraphResults,
  StarTask,
  measure_setting,
)
from jaxlook.stats import myopia_gap
from jaxlook.training import FinishedArm, Problem, held_out_key

shared_flags.adopt(__name__, *shared_flags.TRAIN, but=("length",))

_SETTING = flags.DEFINE_multi_enum(
  "setting",
  None,
  SETTINGS,
  "What is trained on; repeat for several.",
)


def measure(problem: Problem, arm: FinishedArm, count: int) -> GraphResults:
  """Measures an arm's models before and after training on `count` graphs."""
  saved = arm.saved()
  return measure_setting(
    cast(StarTask, problem.task),
    saved.decoder,
    saved.params(),
    saved.params(step=0),
    held_out_key(),
    count,
    arm.alive,
  )


def main() -> None:
  """Checks the flags, trains what is missing, measures and reports."""
  held = run_folder.held("path_star")
  config = path_star_setup.build_config(_SETTING.value, held)
  problems = [path_star_setup.problem(config, s) for s in config.settings]
  variants = train_arms.variants_that_only_cut(
    myopia_gap.CUTS, problems[0].model, held
  )
  todo = path_star_setup.arms_to_train(
    problems,
    variants,
    compare_everywhere=[each.name for each in variants]
    != [myopia_gap.CAUSAL, *myopia_gap.CUTS],
  )
  with train_arms.open_experiment(
    "path_star", variants, config, problems
  ) as store:
    arms = train_arms.train_all(store, todo)
    found = [
      measure(problem, arm, config.sequences)
      for (problem, _), arm in zip(todo, arms, strict=True)
    ]
    results_writer.write(store, report.results(config, arms, found))


if __name__ == "__main__":
  app.run(
    main,
    lambda: presets.values(
      path_star_setup.PRESETS,
      attention=myopia_gap.CUTS,
      setting=presets.chosen(path_star_setup.PRESETS).settings,
    ),
  )
