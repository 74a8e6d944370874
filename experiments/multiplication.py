"""Does padding help multiplication where the future cannot ask for work?

    python -m experiments.multiplication [--preset=smoke|cpu|paper] [--out=DIR]
        [--digits=N] [--pad=0 --pad=N ...] [--attention=... (repeatable)]

Operands are written with the lowest digit first, and filled up with zeros that
say nothing: positions at which a product can be worked out before it is asked
for. In the published runs padding helps ordinary training and harms the myopic
one. Trains causal and both myopic cuts on operands of up to n digits, filled up
to n and to 2n as published, and reports loss and accuracy by digit and by
lengths of the operands, what beam search gains, which digits a linear probe
reads before `=`, and how often the written digits turn to another product's
when the stream on the padding is swapped for its. `cpu` takes about 8 minutes
on two cores.

`paper` has the published sizes and waits for an accelerator; with `--digits=8
--pad=8 --pad=16` those of larger operands. Computing is in float32 unless
`--bfloat16` says otherwise; the published runs had bfloat16.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments.common import (
  app,
  results_writer,
  train_arms,
  training_flags,
)
from experiments.common.study import Study
from experiments.reports import multiplication as digits_report
from experiments.reports import multiplication_claims as digits_claims
from jaxlook.models import DecoderConfig, scaled_init_std
from jaxlook.planning.products import measures as digits
from jaxlook.planning.products.measures import ProductResults, ProductSizes
from jaxlook.stats import myopia_gap
from jaxlook.tasks.multiplication import Multiplication
from jaxlook.training import (
  FinishedArm,
  Problem,
  TrainConfig,
  held_out_batch,
  held_out_key,
  read_arm,
)

flags.adopt_module_key_flags(training_flags)

DIGITS = flags.DEFINE_integer("digits", None, "The most digits of an operand.")
PAD = flags.DEFINE_multi_integer(
  "pad",
  None,
  "Digits that operands are filled up to, 0 for no filling; given twice or more"
  " often, in rising order.",
)

_FREQUENCY_PRODUCTS = 16_384

NOTES = (
  "Models have as many position embeddings as the longest padding needs, so"
  " that seed by seed all arms start from the same parameters. Swaps, search,"
  " probes and the accuracies by digit are on products of two numbers of full"
  " length, of which there are few where numbers are short: those that a probe"
  " is scored on may be among those that it was fitted to, for trained and"
  " untrained models alike.",
  "A swap gives the positions of one part the stream of another product, both"
  " operands drawn anew, at the input of one layer, and lets the model write"
  " the answer. Only digits are counted that the model, left alone, writes"
  " differently for the two products. At the input of layer 0 all padding is"
  " the same, so nothing can move; the whole prompt moves everything there.",
  "A cut changes nothing in the forward pass: padding that a model has not"
  " learned to use is still read.",
  "Three digits at `cpu` were chosen after pilots of ordinary training with one"
  " seed, two layers and width 64, with padding against none; a run pads to n"
  " and to 2n, as published. Operands of up to two digits were learned as fast"
  " without padding as with it: training losses of 0.129 and 0.125 nats a digit"
  " after 1,250 to 1,500 steps of 2,500. With up to three digits padding to 6"
  " helped: 0.477 instead of 0.571 after 750 to 1,000 steps of 2,000. Few"
  " products of two numbers of three digits are learned by then, so the table"
  " of padding and myopia is of all lengths evenly; the published one is of"
  " full length. Of those nothing is claimed of a variant that surely gets less"
  f" than {digits_claims.FLOOR:.0%} of them right with either padding.",
  "Verdicts are of each claim by itself, without adjustment for their number.",
)


@dataclasses.dataclass(frozen=True)
class MultiplicationConfig:
  """A scale of the experiment: task, model, training, seeds, measures."""

  digits: int
  pad: tuple[int, ...]
  layers: int
  width: int
  heads: int
  seeds: int
  sizes: ProductSizes
  train: TrainConfig

  def tasks(self) -> dict[str, Multiplication]:
    """The tasks by setting."""
    rising = sorted(set(self.pad))
    if len(self.pad) < 2 or list(self.pad) != rising:
      raise app.UsageError(
        "pad", f"needs two values or more that rise, not {list(self.pad)}"
      )
    return {f"pad={p}": Multiplication(self.digits, p) for p in self.pad}


PRESETS = {
  "smoke": MultiplicationConfig(
    *(1, (0, 2), 2, 16, 2, 2),
    ProductSizes(products=16, swaps=8, probes=32, beam=2),
    training_flags.small_training(4, 8, log_every=2, eval_batches=1),
  ),
  "cpu": MultiplicationConfig(
    *(3, (3, 6), 2, 64, 4, 3),
    ProductSizes(),
    training_flags.small_training(900, 128),
  ),
  "paper": MultiplicationConfig(
    *(5, (5, 10), 12, 768, 12, 3),
    ProductSizes(probes=8192),
    training_flags.small_training(
      9766, 1024, learning_rate=6e-4, warmup_fraction=0.01, microbatches=4
    ),
  ),
}


def problems(config: MultiplicationConfig) -> list[Problem]:
  """The task of every padding with its model, all of one shape."""
  tasks = config.tasks()
  length = max(task.length for task in tasks.values())
  model = DecoderConfig(
    config.layers,
    config.width,
    config.heads,
    max_length=length,
    vocab_size=next(iter(tasks.values())).vocab_size,
    init_std=scaled_init_std(config.width),
  )
  return [
    Problem(
      setting=setting,
      task=task,
      model=model,
      train=config.train,
      seeds=tuple(range(config.seeds)),
      score=lambda loss: {"loss": loss},
      about=dataclasses.asdict(task),
    )
    for setting, task in tasks.items()
  ]


def measure(
  arm: FinishedArm,
  task: Multiplication,
  sizes: ProductSizes,
  step: int | None = None,
) -> ProductResults:
  """Measures an arm's seeds after a step, by default the last."""
  saved = read_arm(arm.root)
  alive = [cell["status"] == "done" or step == 0 for cell in arm.cells]
  params = saved.params(step)
  return digits.measure(
    saved.decoder, task, params, held_out_key(), sizes, alive
  )


def cells(
  arms: Mapping[digits_claims.Arm, FinishedArm],
  tasks: Mapping[str, Multiplication],
  found: Mapping[digits_claims.Arm, ProductResults],
) -> list[dict[str, Any]]:
  """The arms' cells of result.json, with what was measured."""
  more = []
  for (setting, variant), arm in arms.items():
    mine = digits_claims.metrics(tasks[setting], found[setting, variant])
    for place, cell in enumerate(arm.cells):
      numbers = {name: float(values[place]) for name, values in mine.items()}
      finite = {name: x for name, x in numbers.items() if math.isfinite(x)}
      more.append(cell | {"metrics": cell["metrics"] | finite})
  return more


def main() -> None:
  """Checks the flags, trains what is missing, measures and reports."""
  if training_flags.LENGTH.value is not None:
    raise app.UsageError("length", "is settled by --digits and --pad")
  pad = None if PAD.value is None else tuple(PAD.value)
  config = training_flags.resolve(PRESETS, digits=DIGITS.value, pad=pad)
  if config.layers < 2:
    raise app.UsageError(
      "layers",
      f"must be at least 2, not {config.layers}: at the input of the first"
      " layer, padding has read nothing that a swap could bring",
    )
  settings = problems(config)
  variants = train_arms.variants_that_only_cut(
    [myopia_gap.RESIDUAL, myopia_gap.KV], settings[0].model
  )
  tasks = config.tasks()
  study = Study(
    name="multiplication",
    title="Multiplication: padding with and without the future's gradient",
    problem=settings[0],
    variants=variants,
    config={"experiment": "multiplication", **dataclasses.asdict(config)},
    setup=f"operands of 1 to {config.digits} digits, the lowest first;"
    f" {config.layers} layers, width {config.width}, {config.heads} heads;"
    f" AdamW {config.train.learning_rate:g}, {config.train.steps} steps of"
    f" {config.train.batch_size} products; {config.seeds} seeds",
    unit="nats/digit",
    source="",
  )
  with study.open_run() as store:
    todo = [(each, variant) for each in settings for variant in variants]
    arms = {
      (arm.setting, arm.variant): arm
      for arm in train_arms.train_all(store, todo)
    }
    found = {
      name: measure(arm, tasks[name[0]], config.sizes)
      for name, arm in arms.items()
    }
    untrained = {
      setting: measure(
        arms[setting, myopia_gap.CAUSAL], task, config.sizes, step=0
      )
      for setting, task in tasks.items()
    }
    frequency = np.asarray(
      jax.jit(tasks[settings[0].setting].frequency_loss)(
        held_out_batch(settings[0], _FREQUENCY_PRODUCTS)
      )
    )
    captions = digits_report.draw(
      store.figures, tasks, found, frequency=frequency, setup=study.setup
    )
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        claims=digits_claims.claims(tasks, found, untrained),
        tables=digits_report.tables(tasks, found, untrained),
        figures=captions,
        cells=cells(arms, tasks, found),
        measurements=digits_report.measurements(
          tasks, found, settings[0].seeds
        ),
        notes=NOTES,
      ),
    )


if __name__ == "__main__":
  app.run(main)
