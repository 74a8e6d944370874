"""Do models plan a rhyme at the line break, and who asks them to?

    python -m experiments.planning [--preset=smoke|cpu|paper] [--out=DIR]
        [--key=lookup|tally] [--language=ROUTE[/end_only][/late_genre]]
        [--p=0.75] [--pairs=K] [--attention=... (repeatable)]

Couplets (`jaxlook.tasks.couplets`) are a language in which it is known what
must be planned, where, and what it is worth in nats.

Arms: causal and both myopic cuts in each language; causal alone in end-only
languages, where improvising is all there is to learn, unless `--attention`
names what to train.

Writes, for each language and variant: the loss by class of positions beside the
exact loss of a planner, an improviser and a blind reader; whether the lines
that the model writes rhyme and hold together; the beam gain; a linear probe for
the rhyme at every place of few positions. Then the causal tests: what m1, the
article, e2 and the written line become when the state at one place is replaced
by that of another couplet, or steered from one rhyme family to another, and
what is lost when line 2 may not look at a place.

`--key=lookup` (default; 19 minutes on two cores): the class of e1 is the key.
Three languages: with an open route, with a bottleneck at the line break, and
end-only. `--language=bottleneck/late_genre --p=0.25,0.75` puts the genre after
the line break. `--key=tally` (30 minutes): the pairs of line 1 give the key.
"""

from absl import flags

from experiments.common import (
  app,
  define_flags,
  results_writer,
  run_folder,
  shared_flags,
  train_arms,
)
from experiments.reports import planning as report
from experiments.setups import planning_setup
from jaxlook.keys import make_key
from jaxlook.planning.couplets.measure_all import (
  HeldOutCouplets,
  NamedValues,
  measure_all,
  measure_probes,
  named_probe_values,
  named_values,
)
from jaxlook.stats import myopia_gap
from jaxlook.tasks.couplets import Couplets
from jaxlook.training import FinishedArm

shared_flags.adopt(__name__, *shared_flags.TRAIN, "p", but=("length",))

_KEY = flags.DEFINE_enum(
  "key",
  "lookup",
  ("lookup", "tally"),
  "How line 1 gives the rhyme: lookup by its last word, tally by its pairs.",
)
_LANGUAGE = define_flags.texts(
  "language",
  None,
  "Language to train on: open or bottleneck, followed by /end_only,"
  " /late_genre or both; repeat for several.",
)
_PAIRS = define_flags.whole(
  "pairs", None, "Pairs of line 1, K, an odd number, with --key=tally."
)


def measure(
  arm: FinishedArm, task: Couplets, held_out: HeldOutCouplets
) -> NamedValues:
  """Measures an arm's models after training."""
  saved = arm.saved()
  key = make_key(0)
  found = measure_all(
    saved.decoder, task, saved.params(), held_out, arm.alive, key
  )
  return named_values(task, found)


def main() -> None:
  """Checks the flags, trains what is missing, measures and reports."""
  held = run_folder.held("planning")
  config = planning_setup.build_config(
    _KEY.value,
    forms=_LANGUAGE.value,
    pairs=_PAIRS.value,
    shares=shared_flags.P.value,
    held=held,
  )
  problems = planning_setup.problems(config)
  variants = train_arms.variants_that_only_cut(
    myopia_gap.CUTS, problems[0].model, held
  )
  todo = planning_setup.arms_to_train(
    problems,
    variants,
    compare_everywhere=[each.name for each in variants]
    != [myopia_gap.CAUSAL, *myopia_gap.CUTS],
  )
  with train_arms.open_experiment(
    "planning", variants, config, problems
  ) as store:
    arms = train_arms.train_all(store, todo)
    found, untrained = {}, {}
    for name, task in config.tasks().items():
      held_out = planning_setup.held_out(task, config)
      mine = [arm for arm in arms if arm.setting == name]
      found[name] = {arm.variant: measure(arm, task, held_out) for arm in mine}
      first = mine[0].saved()
      probes = measure_probes(first.decoder, task, first.params(0), held_out)
      untrained[name] = named_probe_values(task, probes)
    results_writer.write(store, report.results(config, arms, found, untrained))


if __name__ == "__main__":
  app.run(
    main,
    lambda: planning_setup.values(_KEY.value, attention=myopia_gap.CUTS),
    says={"p": "Share of couplets that must rhyme, or several: 0.5,0.9."},
  )
