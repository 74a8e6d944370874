"""Does the myopia gap grow with the size of the model, and the local bonus?

    python -m experiments.scaling [--corpus=PATH [--valid=PATH]]
        [--model_size=NAME,NAME,...] [--data_steps=N,N,...]
        [--preset=smoke|cpu|paper] [--out=DIR]

Trains causal, myopic/residual, myopic/kv and the local myopic model of several
sizes on the same windows, seed by seed, and fits gap and bonus of each seed
against log10 of the non-embedding parameters; the verdict is read off the
interval of the slope. With `--data_steps` it is the amount of data that
changes: trainings of so many steps, each with a whole schedule, at one size.
Without `--corpus` the text is generated from a small grammar.

A night on two cores, to be stopped and gone on with by the same command:

    python -m experiments.scaling --corpus=BOOKS --tokenizer=bpe:4096
        --model_size=0.2M,0.8M,3M --steps=2500 --learning_rate=2e-3
        --out=runs/scaling-night
"""

import dataclasses
import itertools

import numpy as np
from absl import flags

from experiments import ablating, cli, reading, sizing, studying
from jaxlook import ablation
from jaxlook.lookahead import scaling, scaling_report
from jaxlook.tasks.text import Text
from jaxlook.training import FinishedArm, Problem

flags.adopt_module_key_flags(ablating)
flags.adopt_module_key_flags(reading)
flags.adopt_module_key_flags(sizing)
TRAINED = (ablation.CAUSAL, ablation.RESIDUAL, ablation.KV)
SIZES = {
  "smoke": ("0.9k", "3.3k"),
  "cpu": ("13k", "51k", "0.2M"),
  "paper": ("pythia-14m", "pythia-31m", "pythia-70m", "pythia-160m"),
}
_CPU, _PAPER = (reading.PRESETS[preset] for preset in ("cpu", "paper"))
PRESETS = reading.PRESETS | {
  "cpu": dataclasses.replace(
    _CPU, train=dataclasses.replace(_CPU.train, steps=400)
  ),
  "paper": dataclasses.replace(_PAPER, seeds=4),
}
_FIGURE = "scaling.png"


def study(
  config: reading.Config, text: Text, found: sizing.Points
) -> studying.Study:
  """What is trained, in the words of report and figure."""
  first = found.problems[0]
  shapes = {each.setting: each.model for each in found.problems}
  if sizing.DATA_STEPS.value is not None:
    shapes = {"one size": first.model}
  listed = ", ".join(
    f"{name} ({shape.layers} layers, width {shape.width}, {shape.heads} heads)"
    for name, shape in shapes.items()
  )
  steps = " or ".join(
    str(steps) for steps in sorted({p.train.steps for p in found.problems})
  )
  return studying.Study(
    name="scaling",
    title=f"Myopia gap and local bonus against {found.axis}",
    problem=first,
    variants=(*TRAINED, scaling.LOCAL),
    config={
      "experiment": "scaling",
      "text": reading.about(text),
      "axis": found.axis,
      "points": {
        each.setting: {
          "x": found.x[each.setting],
          "model": dataclasses.asdict(each.model),
          "train": dataclasses.asdict(each.train),
        }
        for each in found.problems
      },
      "seeds": config.seeds,
    },
    setup=f"{reading.name()}, {text.train.tokenizer} tokens; N ="
    f" {config.length}; {listed}; AdamW {first.train.learning_rate:g}, {steps}"
    f" steps of {first.train.batch_size} sequences; {config.seeds} seeds",
    unit=reading.UNIT,
    source=reading.SOURCE,
  )


def train(store, problems: tuple[Problem, ...]) -> list[FinishedArm]:
  """All arms of all points, the local ones last: they read the vanilla ones."""
  plain = list(itertools.product(problems, TRAINED))
  local = [(problem, scaling.LOCAL) for problem in problems]
  arms = ablating.train(store, plain, later=local)
  vanilla = {
    arm.setting: studying.read(arm)
    for arm in arms
    if arm.variant == ablation.CAUSAL
  }
  return [*arms, *ablating.train(store, local, vanilla)]


def main() -> None:
  """Checks the flags and the text, then trains and reports."""
  for name in ("attention", "task", "model", "step"):
    if not flags.FLAGS[name].using_default_value:
      raise cli.UsageError(name, "is given in vain: all arms are fixed")
  config = reading.build_config(PRESETS)
  sizing.chosen(SIZES[ablating.PRESET.value])
  text = reading.read_text(config)
  found = sizing.points(config, text, SIZES[ablating.PRESET.value])
  about = study(config, text, found)
  with studying.opened(about) as store:
    arms = train(store, found.problems)
    cells = [cell for arm in arms for cell in arm.cells]
    names = tuple(problem.setting for problem in found.problems)
    sweep = scaling.Sweep(
      found.axis,
      names,
      np.array([found.x[name] for name in names], np.float64),
      {name: ablation.by_variant(cells, "loss", name) for name in names},
    )
    scaling_report.figure(
      store.figures / _FIGURE, sweep, title=about.title, setup=about.setup
    )
    studying.write(
      store,
      about,
      studying.Findings(
        cells=cells,
        claims=scaling_report.claims(sweep),
        tables=scaling_report.tables(
          sweep, {name: ablation.diverged(cells, name) for name in names}
        ),
        figures={_FIGURE: scaling_report.CAPTION},
        notes=scaling_report.NOTES,
      ),
    )


if __name__ == "__main__":
  cli.run(main)
