"""Do induction heads form when the future cannot ask for them?

    python -m experiments.induction [--preset=smoke|cpu|paper] [--out=DIR]
        [--attention=... (repeatable)] [--positions=rotary|learned]

A previous-token head does little for its own prediction: it writes the token
before into the residual stream, so that a later query can find it, a segment
and a gap further on. Attention-only models of two layers learn repeated random
sequences (`jaxlook.tasks.induction`).

Arms: causal, both myopic cuts and several gradient horizons; one layer, causal,
as a control.

Writes, along training: the scores of the best previous-token head and of the
best head that matches prefixes and copies, the loss of tokens that can be
copied, and the in-context score; then claims and figures. `cpu` takes about 10
minutes on two cores.

Positions are rotary. With learned ones, or with short segments of few tokens,
models copy as well by heads that attend to several recent tokens, which a score
of a single position does not see.
"""

from experiments.common import (
  app,
  presets,
  results_writer,
  run_folder,
  shared_flags,
  train_arms,
)
from experiments.reports import induction as report
from experiments.setups import induction_setup
from jaxlook.circuits.induction_heads import measure_along_training
from jaxlook.stats import myopia_gap
from jaxlook.training import held_out_batch

shared_flags.adopt(__name__, *shared_flags.TRAIN, "positions")


def main() -> None:
  """Checks the flags, trains what is missing, measures and reports."""
  held = run_folder.held("induction")
  config = induction_setup.build_config(shared_flags.POSITIONS.value, held)
  shallow, deep = induction_setup.problems(config)
  horizons = [f"horizon:{h}" for h in config.horizons]
  variants = train_arms.chosen_variants(
    [*myopia_gap.CUTS, *horizons], deep.model, held=held
  )
  (causal,) = train_arms.named_variants([myopia_gap.CAUSAL], shallow.model)
  todo = [(shallow, causal), *((deep, variant) for variant in variants)]
  with train_arms.open_experiment(
    "induction", variants, config, [shallow, deep]
  ) as store:
    arms = train_arms.train_all(store, todo)
    courses = []
    for (problem, _), arm in zip(todo, arms, strict=True):
      saved = arm.saved()
      courses.append(
        measure_along_training(
          saved.decoder,
          config.task(),
          saved.params,
          saved.kept_steps,
          held_out_batch(problem, config.sequences),
          arm.alive,
        )
      )
    results_writer.write(store, report.results(config, arms, courses))


if __name__ == "__main__":
  app.run(main, lambda: presets.values(induction_setup.PRESETS))
