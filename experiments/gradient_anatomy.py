"""Who asks for what: the gradient to keys and values, split by distance.

    python -m experiments.gradient_anatomy [--task=precache|text]
        [--model=RUN|DIR [--step=N]] [--preset=smoke|cpu|paper]
        [--sequences=N] [--out=DIR]

Arms: causal and myopic/kv, each beside the same models before training. Splits
the gradient to keys, values, W_K and W_V by distance; draws how much each loss
depends on each position; cuts attention edges to see which losses keys serve;
and follows the angle of the myopic and the future gradient along training.
"""

from experiments.common import (
  app,
  define_flags,
  memory_check,
  results_writer,
  shared_flags,
  study_setup,
)
from experiments.reports import gradient_anatomy as report
from experiments.setups import gradient_anatomy_setup
from jaxlook.lookahead import gradient_anatomy
from jaxlook.training import held_out_batch

shared_flags.adopt(__name__, *shared_flags.STUDY)

_SEQUENCES = define_flags.whole(
  "sequences", None, "Held-out sequences to measure on.", lower_bound=1
)


def main() -> None:
  """Checks the flags, trains what is missing, measures and reports."""
  study = study_setup.build(
    "gradient_anatomy",
    "Gradient anatomy: who asks for what",
    gradient_anatomy_setup.ARMS,
    precache=gradient_anatomy_setup.PRECACHE,
    text=gradient_anatomy_setup.TEXT,
  )
  name = "text" if study.on_text else "precache"
  sequences = _SEQUENCES.value or gradient_anatomy_setup.SEQUENCES[name]
  study = study.with_config(sequences=sequences)
  task, shape = study.problem.task, study.problem.model
  if not study.on_text:
    # Of a text, the held-out windows are the most that there are.
    memory_check.check_sequences("sequences", sequences, shape)
  batch = held_out_batch(study.problem, sequences)
  with study.open_run() as store:
    subjects, left_out = gradient_anatomy_setup.only_cut(study.subjects(store))
    subjects.append(subjects[0].untrained())
    anatomies = {
      each.variant: gradient_anatomy.measure_anatomy(
        each.decoder, task, each.params, batch
      )
      for each in subjects
    }
    course, early = gradient_anatomy_setup.course(
      subjects[0], before=subjects[-1]
    )
    directions = {
      step: gradient_anatomy.measure_directions(
        each.decoder, task, each.params, batch
      )
      for step, each in course.items()
    }
    results_writer.write(
      store,
      report.results(
        study,
        subjects,
        anatomies,
        directions,
        early=early,
        sequences=len(batch.inputs),
        left_out=left_out,
      ),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(
      precache=gradient_anatomy_setup.PRECACHE,
      text=gradient_anatomy_setup.TEXT,
      attention=gradient_anatomy_setup.ARMS,
      sequences=gradient_anatomy_setup.SEQUENCES[shared_flags.TASK.value],
    ),
    says=study_setup.SAYS,
  )
