"""Does the myopia gap grow with the size of the model, and the local bonus?

    python -m experiments.scaling [--corpus=PATH [--valid=PATH]]
        [--model_size=NAME,NAME,... | --from=DIR --from=DIR ...]
        [--data_steps=N,N,...] [--preset=smoke|cpu|paper]
        [--out=DIR]

Trains causal, myopic/residual, myopic/kv and the local myopic model at several
sizes on the same windows, seed by seed. Fits the gap and the bonus of each seed
against log10 of the non-embedding parameters, and takes the verdict from the
interval of the slope. Writes losses, gaps, fits and the published line.

`--data_steps` varies the amount of data instead: trainings of so many steps at
one size, each with its own whole schedule. `--from` fine-tunes pretrained
Pythia or GPT-2 folders, as the published study does: all seeds start from the
same weights. Without `--corpus` the text is generated from a small grammar.

A run over night on two cores (12 hours of one core, estimated from a fifth of
it). It can be stopped; the same command goes on from there:

    python -m experiments.scaling --corpus=BOOKS --tokenizer=bpe:4096
        --model_size=0.2M,0.8M,3M --batch_size=8 --steps=8000
        --learning_rate=2e-3 --out=runs/scaling-night
"""

from absl import flags

from experiments.common import (
  app,
  model_sizes,
  presets,
  results_writer,
  run_folder,
  shared_flags,
  text_setup,
  train_arms,
)
from experiments.reports import scaling as report
from experiments.setups import scaling_setup
from jaxlook.models import SHAPES

shared_flags.adopt(
  __name__,
  *shared_flags.TRAIN,
  *shared_flags.TEXT,
  "model_size",
  "from",
  but=("attention", "layers", "width", "heads"),
)
flags.adopt_module_key_flags(scaling_setup)


def main() -> None:
  """Checks the flags and the text, then trains and reports."""
  config = text_setup.build_config(
    scaling_setup.PRESETS, run_folder.held("scaling")
  )
  preset = shared_flags.PRESET.value
  sizes = model_sizes.chosen(scaling_setup.SIZES[preset])
  scaling_setup.check_points(config, sizes)
  text = model_sizes.read_text(config, sizes)
  swept = scaling_setup.points(config, text, sizes)
  study = scaling_setup.study(config, text, swept)
  counts = text_setup.baselines(text_setup.count(text), study.problem)
  losses = {name: metrics["loss"] for name, metrics in counts.items()}
  with study.open_run(swept.problems) as store:
    arms = train_arms.train_with_teachers(store, scaling_setup.arms(swept))
    results_writer.write(store, report.results(study, swept, arms, losses))


if __name__ == "__main__":
  app.run(
    main,
    lambda: presets.values(
      scaling_setup.PRESETS, model_size=presets.chosen(scaling_setup.SIZES)
    ),
    says={
      "model_size": "Shapes of the models by name, two or more:"
      f" {', '.join(SHAPES)}.",
      "from": "Hugging Face folder (GPT-2, Pythia) to fine-tune; repeat for"
      " two or more.",
    },
  )
