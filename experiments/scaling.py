"""Does the myopia gap grow with the size of the model, and the local bonus?

    python -m experiments.scaling [--corpus=PATH [--valid=PATH]]
        [--model_size=NAME,NAME,... | --from=DIR --from=DIR ...]
        [--data_steps=N,N,...] [--preset=smoke|cpu|paper]
        [--out=DIR]

Trains causal, myopic/residual, myopic/kv and the local myopic model of several
sizes on the same windows, seed by seed, and fits gap and bonus of each seed
against log10 of the non-embedding parameters; the verdict is read off the
interval of the slope. With `--data_steps` it is the amount of data that
changes: trainings of so many steps, each with a whole schedule, at one size.
With `--from`, pretrained Pythia or GPT-2 folders are fine-tuned, as the
published study does: all seeds start from the same weights.
Without `--corpus` the text is generated from a small grammar.

A night on two cores (12 hours of one core, by the time of a fifth of it), to be
stopped and gone on with by the same command:

    python -m experiments.scaling --corpus=BOOKS --tokenizer=bpe:4096
        --model_size=0.2M,0.8M,3M --batch_size=8 --steps=8000
        --learning_rate=2e-3 --out=runs/scaling-night
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from absl import flags

from experiments.common import (
  app,
  model_sizes,
  results_writer,
  scaling_setup,
  text_corpus,
  text_setup,
  train_arms,
  training_flags,
)
from experiments.common.study import Study
from experiments.reports import scaling as scaling_report
from jaxlook.lookahead import scaling
from jaxlook.stats import myopia_gap
from jaxlook.tasks.text import Text
from jaxlook.training import FinishedArm, Problem, read_arm

flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(text_setup)
flags.adopt_module_key_flags(model_sizes)
flags.adopt_module_key_flags(scaling_setup)
TRAINED = (myopia_gap.CAUSAL, myopia_gap.RESIDUAL, myopia_gap.KV)
SIZES = {
  "smoke": ("0.9k", "3.3k"),
  "cpu": ("13k", "51k", "0.2M"),
  "paper": ("pythia-14m", "pythia-31m", "pythia-70m", "pythia-160m"),
}
_CPU, _PAPER = (text_setup.PRESETS[preset] for preset in ("cpu", "paper"))
PRESETS = text_setup.PRESETS | {
  "cpu": dataclasses.replace(
    _CPU, train=dataclasses.replace(_CPU.train, steps=400)
  ),
  "paper": dataclasses.replace(_PAPER, seeds=4),
}
_FIGURE = "scaling.png"


def study(
  config: text_setup.TextConfig, text: Text, found: scaling_setup.Points
) -> Study:
  """What is trained, in the words of report and figure."""
  first = found.problems[0]
  shapes = {each.setting: each for each in found.problems}
  if found.size is not None:
    shapes = {found.size: first}
  listed = ", ".join(
    f"{name} ({each.model.layers} layers, width {each.model.width},"
    f" {each.model.heads} heads, AdamW {each.train.learning_rate:g})"
    for name, each in shapes.items()
  )
  steps = " or ".join(
    str(steps) for steps in sorted({p.train.steps for p in found.problems})
  )
  start = "fine-tuned from pretrained weights; " if first.start else ""
  return Study(
    name="scaling",
    title=f"Myopia gap and local bonus against {found.axis}",
    problem=first,
    variants=train_arms.named_variants((*TRAINED, scaling.LOCAL), first.model),
    config={
      "experiment": "scaling",
      "text": text_corpus.about(text),
      "axis": found.axis,
      "points": {
        each.setting: {
          "x": found.x[each.setting],
          "model": dataclasses.asdict(each.model),
          "start": each.start.about if each.start else None,
          "train": dataclasses.asdict(each.train),
        }
        for each in found.problems
      },
      "seeds": config.seeds,
    },
    setup=f"{text_corpus.name()}, {text.train.tokenizer} tokens; N ="
    f" {config.length}; {listed}; {start}{steps} steps of"
    f" {first.train.batch_size} sequences; {config.seeds} seeds",
    unit=text_setup.UNIT,
    source=text_setup.SOURCE,
  )


def train(store, problems: tuple[Problem, ...]) -> list[FinishedArm]:
  """All arms of all points, the local ones last: they read the vanilla ones."""
  plain, local = (
    [
      (problem, variant)
      for problem in problems
      for variant in train_arms.named_variants(names, problem.model)
    ]
    for names in (TRAINED, [scaling.LOCAL])
  )
  arms = train_arms.train_all(store, plain, later=local)
  vanilla = {
    arm.setting: read_arm(arm.root)
    for arm in arms
    if arm.variant == myopia_gap.CAUSAL
  }
  return [*arms, *train_arms.train_all(store, local, vanilla)]


def training_losses(
  sweep: scaling.SizeSweep, arms: Sequence[FinishedArm]
) -> scaling.SizeSweep:
  """A sweep's losses at the end of training, where the seeds are alive."""
  losses = {name: {} for name in sweep.names}
  for arm in arms:
    seeds = [cell["seed"] for cell in arm.cells]
    losses[arm.setting][arm.variant] = {
      seed: float(loss)
      for seed, loss in zip(seeds, arm.losses[-1], strict=True)
      if np.isfinite(loss)
    }
  return dataclasses.replace(sweep, losses=losses)


def notes(found: scaling_setup.Points) -> tuple[str, ...]:
  """What a reader has to know of the fits and of the training."""
  rates = {each.train.learning_rate for each in found.problems}
  said = (
    "One learning rate serves all points."
    if len(rates) == 1
    else "Each size has the learning rate of its line above."
  )
  if found.problems[0].start is not None:
    said = f"{said} {model_sizes.SAME_START}"
  return (*scaling_report.NOTES, said)


def main() -> None:
  """Checks the flags and the text, then trains and reports."""
  if training_flags.ATTENTION.value is not None:
    raise app.UsageError("attention", "is given in vain: all arms are fixed")
  config = text_setup.build_config(PRESETS)
  sizes = model_sizes.chosen(SIZES[training_flags.PRESET.value])
  scaling_setup.check_points(config, sizes)
  text = model_sizes.read_text(config, sizes)
  found = scaling_setup.points(config, text, sizes)
  about = study(config, text, found)
  counts = {
    name: metrics["loss"]
    for name, metrics in text_setup.baselines(text, about.problem).items()
  }
  with about.open_run() as store:
    arms = train(store, found.problems)
    cells = [cell for arm in arms for cell in arm.cells]
    names = tuple(problem.setting for problem in found.problems)
    sweep = scaling.SizeSweep(
      found.axis,
      names,
      np.array([found.x[name] for name in names], np.float64),
      {name: myopia_gap.by_variant(cells, "loss", name) for name in names},
    )
    scaling_report.figure(
      store.figures / _FIGURE, sweep, title=about.title, setup=about.setup
    )
    results_writer.write(
      store,
      results_writer.Results(
        name=about.name,
        title=about.title,
        setup=about.setup,
        cells=cells,
        claims=scaling_report.claims(sweep, counts["bigram counts"]),
        tables=scaling_report.tables(
          sweep,
          training_losses(sweep, arms),
          {name: myopia_gap.diverged(cells, name) for name in names},
          counts,
        ),
        figures={_FIGURE: scaling_report.CAPTION},
        notes=notes(found),
      ),
    )


if __name__ == "__main__":
  app.run(main)
