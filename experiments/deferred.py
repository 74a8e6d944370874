"""The unit test of pre-caching on discrete data: asked for d steps later.

    python -m experiments.deferred [--preset=smoke|cpu|paper] [--out=DIR]
        [--delay=4] [--horizons=0,1,2,4]

A function of two neighbouring tokens can be worked out as soon as they are
read, is of no use there, and is asked for d steps later, as a sum over several
such pairs (`jaxlook.tasks.deferred`). Trains the dial of gradient horizons for
both stop points at two depths. Gradient from a query reaches the first block's
output up to h (layers - 1) positions back; so the gap must be whole where that
is below d, and must be gone from the farthest pair on. `cpu` takes about 10
minutes on two cores.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
from absl import flags

from experiments.common import (
  app,
  horizon_setup,
  presets,
  results_writer,
  shared_flags,
  train_arms,
)
from experiments.common.study import Study
from experiments.reports import horizon as horizon_report
from experiments.reports import horizon_claims
from jaxlook import reporting
from jaxlook.lookahead.horizon import STOPS, HorizonSweep, LossByVariant
from jaxlook.lookahead.horizon import horizon_name as horizon_name
from jaxlook.models import DecoderConfig, scaled_init_std
from jaxlook.runs.store import Store
from jaxlook.stats import myopia_gap
from jaxlook.stats.claims import Statement, judged
from jaxlook.tasks.deferred import Deferred
from jaxlook.training import FinishedArm, Problem, TrainConfig

shared_flags.adopt(
  __name__, *shared_flags.TRAIN, "horizons", but=("attention", "layers")
)

_DELAY = flags.DEFINE_integer(
  "delay", None, "Positions after which a pair of tokens is asked for, d."
)


_OURS = "jaxlook's own; the discrete form of Wu et al. 2024, section 4"


@dataclasses.dataclass(frozen=True)
class DeferredConfig:
  """A scale of the experiment: task, depths, model, training, seeds, dial."""

  p: float
  delay: int
  terms: int
  tokens: int
  values: int
  length: int
  depths: tuple[int, ...]
  width: int
  heads: int
  seeds: int
  horizons: tuple[int, ...]
  train: TrainConfig

  def task(self) -> Deferred:
    """The task."""
    return Deferred(
      *(self.p, self.delay, self.terms, self.tokens, self.values),
      length=self.length,
    )

  def problem(self, layers: int) -> Problem:
    """The task with a model of some depth."""
    task = self.task()
    model = DecoderConfig(
      *(layers, self.width, self.heads),
      max_length=self.length,
      vocab_size=task.vocab_size,
      positions="rotary",
      tied_head=False,
      init_std=scaled_init_std(self.width),
    )
    share = task.p * (task.length - task.first) / task.length
    return Problem(
      setting=f"{layers} layers",
      task=task,
      model=model,
      train=self.train,
      seeds=tuple(range(self.seeds)),
      score=lambda loss: {"loss": loss, "loss_over_asked": loss / share},
      about=dataclasses.asdict(task),
    )


PRESETS = {
  "smoke": DeferredConfig(
    *(0.5, 2, 1, 4, 2, 6),
    (2,),
    *(8, 2, 2),
    (0, 1),
    presets.small_training(20, 8, log_every=10),
  ),
  "cpu": DeferredConfig(
    *(0.5, 4, 3, 4, 2, 16),
    (2, 3),
    *(32, 2, 3),
    (0, 1, 2, 3, 4, 6),
    presets.small_training(800, 64),
  ),
  "paper": DeferredConfig(
    *(0.5, 16, 4, 8, 4, 64),
    (2, 3, 5),
    *(128, 4, 8),
    (0, 1, 2, 4, 5, 8, 12, 15, 16, 19, 32),
    presets.small_training(10_000, 256, learning_rate=1e-3),
  ),
}


def reach(task: Deferred, layers: int) -> tuple[int, int]:
  """Bounds of the horizon that is needed.

  Below the first no gradient from a query reaches the first block's output at
  the nearest pair; from the second on it reaches all pairs in one layer.
  """
  return math.ceil(task.delay / (layers - 1)), task.delay + task.terms - 1


def _statements(
  setting: str, losses: LossByVariant, chance: float
) -> Iterator[Statement]:
  """Ordinary training learns the task, and myopic training nothing of it."""
  bounds = {myopia_gap.CAUSAL: ("learned", "at most a tenth", {"high": 0.1})}
  for stop in STOPS:
    whole = (f"{stop}/whole", "at least nine tenths", {"low": 0.9})
    bounds[horizon_name(0, stop)] = whole
  for variant, (id, words, bound) in bounds.items():
    yield Statement(
      f"{setting}/{id}",
      f"the loss of {variant} is {words} of that of who knows no pair",
      _OURS,
      "share of chance",
      np.array(list(losses[variant].values())) / chance,
      bound,
    )


def results(
  store: Store,
  study: Study,
  problems: Sequence[Problem],
  dial: HorizonSweep,
  arms: Sequence[FinishedArm],
) -> results_writer.Results:
  """The dial at every depth: claims, tables, figures."""
  cells = [cell for arm in arms for cell in arm.cells]
  claims, tables, figures = [], {}, {}
  for problem in problems:
    layers, length = problem.model.layers, problem.model.max_length
    losses = myopia_gap.by_variant(cells, "loss_over_asked", problem.setting)
    unit = "nats/asked token"
    task = cast(Deferred, problem.task)
    bounds = reach(task, layers)
    claims += horizon_claims.claims(
      *(dial, losses, length, bounds),
      unit=unit,
      source=_OURS,
      setting=problem.setting,
    )
    claims += judged(_statements(problem.setting, losses, task.asked_chance))
    found = horizon_report.tables(dial, losses, length, layers, unit)
    found[f"Held-out loss, {unit}"] = reporting.variant_table(
      losses,
      myopia_gap.diverged(cells, problem.setting),
      {"chance": task.asked_chance},
    )
    tables |= {
      f"{name} ({problem.setting})": rows for name, rows in found.items()
    }
    file = f"{layers}-layers.png"
    horizon_report.figure(
      *(store.figures / file, dial, losses, length),
      unit=unit,
      setup=f"{problem.setting}; {study.setup}; {len(problem.seeds)} seeds",
    )
    figures[file] = (
      f"{problem.setting}: mean and 95% t band over seeds; h = {length - 1} is"
      f" ordinary training. No gradient reaches a pair with h < {bounds[0]}; it"
      f" reaches all pairs in one layer from h = {bounds[1]} on."
    )
  return results_writer.Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    claims=claims,
    tables=tables,
    figures=figures,
    cells=cells,
  )


def main() -> None:
  """Checks the flags, then trains and reports."""
  config = presets.resolve(PRESETS, delay=_DELAY.value)
  task = config.task()
  dial = HorizonSweep(config.horizons, single_layers=False)
  dial = horizon_setup.build_sweep(dial, config.length)
  problems = [config.problem(layers) for layers in config.depths]
  todo = [
    (problem, variant)
    for problem in problems
    for variant in dial.variants(problem.model.layers, problem.model.heads)
  ]
  study = Study(
    name="deferred",
    title="Deferred: the loss by how far ahead gradient may come from",
    problem=problems[0],
    variants=dial.variants(config.depths[0], config.heads),
    config={
      "experiment": "deferred",
      **dataclasses.asdict(config),
      "horizons": dial.horizons,
    },
    setup=f"{task.terms} pairs of {task.tokens} tokens, from {task.delay} steps"
    f" back on, asked for with p = {task.p:g}; N = {task.length}, width"
    f" {config.width}, {config.heads} heads, rotary positions; AdamW"
    f" {config.train.learning_rate:g}, {config.train.steps} steps of"
    f" {config.train.batch_size} sequences",
    unit="nats/token",
    source="",
  )
  with study.open_run() as store:
    arms = train_arms.train_all(store, todo)
    results_writer.write(store, results(store, study, problems, dial, arms))


if __name__ == "__main__":
  app.run(main, lambda: presets.values(PRESETS))
