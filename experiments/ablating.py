"""The flow that the ablations share: arms in turn, then result and report.

Not a binary: `experiments.precache` and `experiments.language` say what to
train on and what to claim, this says in which order things happen.
"""

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments import cli, clusters, distributed, launching
from jaxlook import ablation, figures, report, stats
from jaxlook.attention import layers_name, parse_layers
from jaxlook.environment import environment
from jaxlook.models import parameter_counts
from jaxlook.runs import Store, follow_store, open_store
from jaxlook.training import (
  FinishedArm,
  Problem,
  SavedArm,
  Stopped,
  TrainConfig,
  held_out_losses,
  parse_mesh,
  processes,
  read_arm,
  run_arm,
)

PRESETS = ("smoke", "cpu", "paper")

PRESET = flags.DEFINE_enum(
  "preset", "cpu", PRESETS, "Scale: seconds, minutes, or an accelerator."
)
SEEDS = flags.DEFINE_integer(
  "seeds", None, "Number of seeds, at least 2.", lower_bound=2
)
OUT = flags.DEFINE_string(
  "out", None, "Run folder; runs/EXPERIMENT-PRESET by default."
)
ATTENTION = flags.DEFINE_multi_string(
  "attention",
  None,
  "An arm beside causal, as horizon:4 or causal,myopic; may be repeated.",
)
STEPS = flags.DEFINE_integer("steps", None, "Training steps.")
LEARNING_RATE = flags.DEFINE_float(
  "learning_rate", None, "Peak of the learning rate."
)
MICROBATCHES = flags.DEFINE_integer(
  "microbatches",
  None,
  "Parts of a batch, one after the other: less memory, faster on a CPU.",
)
BFLOAT16 = flags.DEFINE_bool(
  "bfloat16",
  None,
  "Multiply in bfloat16 while training; parameters are float32.",
)
REMAT = flags.DEFINE_bool(
  "remat", None, "Compute blocks again in the backward pass: less memory."
)
LOSS_TOKENS = flags.DEFINE_integer(
  "loss_tokens", None, "Tokens whose logits exist at a time; all by default."
)
MESH = flags.DEFINE_string(
  "mesh",
  None,
  "Devices, as seed:2,data:2,model:2; as many as share the seeds by default.",
)
LAUNCHER = flags.DEFINE_enum(
  "launcher",
  None,
  ["ray"],
  "Who trains the arms: tasks of Ray, on the cluster of RAY_ADDRESS or on this"
  " machine; this process, one after the other, by default.",
)
LAUNCHER_RESOURCES = flags.DEFINE_string(
  "launcher_resources", "cpu:1", "What an arm needs, as cpu:2,gpu:1."
)
LENGTH = flags.DEFINE_integer("length", None, "Positions a sequence.")
LAYERS = flags.DEFINE_integer("layers", None, "Layers of the model.")
WIDTH = flags.DEFINE_integer("width", None, "Width of the residual stream.")
HEADS = flags.DEFINE_integer("heads", None, "Attention heads a layer.")

flags.adopt_module_key_flags(distributed)


def resolve(presets: Mapping[str, Any], **values: Any) -> Any:
  """The preset's config with the fields replaced whose flag was given.

  Args:
    presets: a config dataclass by preset; its `train` is a `TrainConfig`.
    **values: by field, what an experiment's own flag says; None where it was
      not given. The shared flags need not be named.

  Returns:
    The config with the flags' values.

  Raises:
    UsageError: `--steps` or `--microbatches` is out of range.
  """
  config = presets[PRESET.value]
  values |= {
    flag.name: flag.value for flag in (SEEDS, LENGTH, LAYERS, WIDTH, HEADS)
  }
  given = {name: value for name, value in values.items() if value is not None}
  given["train"] = resolve_train(config.train)
  return dataclasses.replace(config, **given)


def resolve_train(train: TrainConfig) -> TrainConfig:
  """The preset's training with the flags' values.

  Args:
    train: what a preset says, for experiments that train in several ways.

  Returns:
    The same with `--steps`, `--learning_rate`, `--microbatches`, `--bfloat16`,
    `--remat` and `--loss_tokens`, where they are given.

  Raises:
    UsageError: a flag is out of range.
  """
  if STEPS.value is not None:
    with cli.naming("steps"):
      kept = [step for step in train.keep_steps if step <= STEPS.value]
      train = dataclasses.replace(
        train, steps=STEPS.value, keep_steps=tuple(kept)
      )
  if LEARNING_RATE.value is not None:
    with cli.naming("learning_rate"):
      train = dataclasses.replace(train, learning_rate=LEARNING_RATE.value)
  if MICROBATCHES.value is not None:
    with cli.naming("microbatches"):
      train = dataclasses.replace(train, microbatches=MICROBATCHES.value)
  if BFLOAT16.value is not None:
    train = dataclasses.replace(train, bfloat16=BFLOAT16.value)
  if REMAT.value is not None:
    train = dataclasses.replace(train, remat=REMAT.value)
  if LOSS_TOKENS.value is not None:
    with cli.naming("loss_tokens"):
      train = dataclasses.replace(train, loss_tokens=LOSS_TOKENS.value)
  return train


def arms(
  default: Sequence[str], layers: int, heads: int, *, local: bool = False
) -> tuple[str, ...]:
  """The variants to train, by their full names, causal always among them.

  Args:
    default: the experiment's own, where `--attention` is not given.
    layers: layers of the model.
    heads: heads a layer.
    local: whether causal is trained first, so that it can be a teacher.

  Returns:
    Distinct variants, in order.

  Raises:
    UsageError: a form is unknown or needs a teacher, which there is none of.
  """
  names = []
  for text in ATTENTION.value or default:
    with cli.naming("attention"):
      specs = parse_layers(text, layers, heads)
    taught = any(spec.source == "teacher" for layer in specs for spec in layer)
    if taught and not local:
      raise cli.UsageError(
        "attention", f"{text!r} needs a teacher, and no model is trained first"
      )
    names.append(layers_name(specs))
  return tuple(dict.fromkeys([ablation.CAUSAL, *names]))


def cuts(default: Sequence[str], layers: int, heads: int) -> tuple[str, ...]:
  """The variants to train, of which none changes the forward pass.

  For measures that compare what variants have learned to do with one and the
  same network.

  Args:
    default: as of `arms`.
    layers: as of `arms`.
    heads: as of `arms`.

  Returns:
    As `arms`.

  Raises:
    UsageError: a form lets positions read less than causal attention does, or
      as `arms`.
  """
  variants = arms(default, layers, heads)
  for variant in variants:
    specs = parse_layers(variant, layers, heads)
    if not all(spec.keeps_forward for layer in specs for spec in layer):
      raise cli.UsageError(
        "attention",
        f"{variant!r} changes the forward pass; only forms that cut gradient"
        " alone can be compared here",
      )
  return variants


@dataclasses.dataclass(frozen=True)
class Ablation:
  """What an experiment hands over to be run and reported.

  Attributes:
    name: the experiment's.
    title: of report and figures.
    config: the resolved config, plain data.
    problems: one for each setting.
    variants: the arms of every problem.
    unit: of the loss.
    setup: one line for figures: task, model, training.
    baselines: by problem, the metrics of what is not trained.
    claims: what the held-out losses of a problem say, by variant and seed.
    notes: paragraphs for the report.
    elsewhere: by name, the problem with other held-out data, to evaluate on as
      well; for experiments of one problem. Its baselines must be there.
  """

  name: str
  title: str
  config: Mapping[str, Any]
  problems: Sequence[Problem]
  variants: Sequence[str]
  unit: str
  setup: str
  baselines: Callable[[Problem], dict[str, dict[str, float]]]
  claims: Callable[[Problem, dict[str, dict[int, float]]], list[stats.Claim]]
  notes: Sequence[str] = ()
  elsewhere: Mapping[str, Problem] = dataclasses.field(default_factory=dict)


def run(ablating: Ablation) -> None:
  """Trains what is not trained yet, writes the results and prints the tables.

  Args:
    ablating: the experiment.

  Raises:
    UsageError: `--out` cannot hold this run.
    SystemExit: the run was asked to stop; the same command goes on from there.
  """
  config = {"variants": ablating.variants, **ablating.config}
  with opened(ablating.name, config) as store:
    local = [name for name in ablating.variants if "teacher" in name]
    plain = [name for name in ablating.variants if name not in local]
    todo = list(itertools.product(ablating.problems, plain))
    later = list(itertools.product(ablating.problems, local))
    arms = train(store, todo, later=later)
    vanilla = {
      arm.setting: read_arm(arm.root)
      for arm in arms
      if arm.variant == ablation.CAUSAL
    }
    if later:
      arms += train(store, later, vanilla)
    if ablating.elsewhere:
      arms = [_evaluated(arm, vanilla, ablating.elsewhere) for arm in arms]
    _write(store, ablating, arms)
  print(f"wrote {store.root}/report.md, result.json, cells.parquet and figures")


def _evaluated(
  arm: FinishedArm,
  vanilla: Mapping[str, SavedArm],
  elsewhere: Mapping[str, Problem],
) -> FinishedArm:
  """The arm with its loss on other held-out data among its metrics."""
  saved = read_arm(arm.root)
  teacher = vanilla[arm.setting] if "teacher" in arm.variant else None
  cells = [dict(cell) for cell in arm.cells]
  for name, problem in elsewhere.items():
    losses = held_out_losses(saved, problem, teacher)
    for cell, loss in zip(cells, losses, strict=True):
      if cell["status"] == "done":
        cell["metrics"] = cell["metrics"] | named(problem.score(loss), name)
  return dataclasses.replace(arm, cells=cells)


def named(metrics: Mapping[str, float], text: str) -> dict[str, float]:
  """Metrics under names that say on which held-out data they were taken."""
  return {f"{metric} on {text}": value for metric, value in metrics.items()}


def opened(name: str, config: Mapping[str, Any]) -> Store:
  """Opens the run folder of an experiment, as `--out` and the preset say.

  Args:
    name: the experiment's.
    config: the resolved config, plain data.

  Returns:
    The store, to be closed.

  Raises:
    UsageError: `--out` cannot hold this run.
  """
  if PRESET.value == "smoke":
    # Most of a smoke run is compiling, and optimisations double that.
    jax.config.update("jax_disable_most_optimizations", True)
  out = Path(OUT.value or f"runs/{name}-{PRESET.value}")
  with cli.naming("out"):
    return processes.led(
      lambda: open_store(out, config), lambda: follow_store(out, config)
    )


def train(
  store: Store,
  todo: Sequence[tuple[Problem, str]],
  teacher: SavedArm | Mapping[str, SavedArm] | None = None,
  later: Sequence[tuple[Problem, str]] = (),
) -> list[FinishedArm]:
  """Trains arms, in turn or as `--launcher` says, or reads finished ones.

  Of several processes the first alone returns, unless arms are left for later.

  Args:
    store: the run store.
    todo: problem and variant of each arm.
    teacher: an arm whose context the variants read, or one by setting.
    later: arms that another call trains: the time left counts them.

  Returns:
    The arms in order.

  Raises:
    UsageError: `--mesh`, `--launcher` or `--launcher_resources` does not fit.
    SystemExit: the run was asked to stop; the same command goes on from there.
  """

  def read_by(problem: Problem) -> SavedArm | None:
    if teacher is None or isinstance(teacher, SavedArm):
      return teacher
    return teacher[problem.setting]

  mesh = None
  if MESH.value is not None:
    with cli.naming("mesh"):
      mesh = parse_mesh(MESH.value)
      # The devices of a launcher's workers are not those here.
      for problem, _ in todo if LAUNCHER.value is None else ():
        mesh.check(len(problem.seeds), problem.train)
  if LAUNCHER.value is not None:
    if processes.joined():
      raise cli.UsageError("launcher", "cannot be given with --distributed")
    with cli.naming("launcher_resources"):
      resources = clusters.parse_resources(LAUNCHER_RESOURCES.value)
    teachers = [read_by(problem) for problem, _ in todo]
    return launching.on_ray(store, todo, resources, teachers, mesh)
  stop = cli.Stop()
  costs = {
    problem.setting: _step_cost(problem) for problem, _ in (*todo, *later)
  }
  progress = cli.Progress(
    sum(problem.train.steps for problem, _ in todo),
    sum(
      problem.train.steps * costs[problem.setting]
      for problem, _ in (*todo, *later)
    ),
  )

  def one(problem: Problem, variant: str) -> FinishedArm:
    name = " ".join(part for part in (problem.setting, variant) if part)
    reporter = progress.arm(name, costs[problem.setting])
    try:
      if processes.most(stop()):
        raise Stopped(0)
      return run_arm(
        store,
        problem,
        variant,
        teacher=read_by(problem),
        report=reporter,
        should_stop=stop,
        mesh=mesh,
      )
    except Stopped as stopped:
      progress.close()
      if processes.leads():
        print(
          f"{name} {stopped}; the same command with --out={store.root} goes on"
          " from there",
          file=sys.stderr,
        )
      sys.exit(processes.most(stop.status))

  with contextlib.closing(progress):
    trained = [one(problem, variant) for problem, variant in todo]
  if not later:
    distributed.go_alone()
  return trained


def _step_cost(problem: Problem) -> float:
  """What a step costs, but for a factor that all problems share: 6 N D."""
  tokens = problem.train.batch_size * problem.model.max_length
  return parameter_counts(problem.model).total * tokens


def _write(
  store: Store, ablating: Ablation, finished: Sequence[FinishedArm]
) -> None:
  """Figures, report and, last, the result; then the closing tables."""
  where = environment()
  sections = [
    ("", f"{ablating.setup}.\n\n{report.environment_line(where)}.\n"),
    *(("", f"{note}\n") for note in ablating.notes),
  ]
  cells, untrained, claims, tables = [], [], [], []
  for problem in ablating.problems:
    mine = [arm for arm in finished if arm.setting == problem.setting]
    cells += [cell for arm in mine for cell in arm.cells]
    baselines = ablating.baselines(problem)
    untrained += [
      {"variant": name, "seed": 0, "metrics": metrics, "status": "done"}
      | ({"setting": problem.setting} if problem.setting else {})
      for name, metrics in baselines.items()
    ]
    values = ablation.by_variant(cells, "loss", problem.setting)
    found = ablating.claims(problem, values)
    claims += found
    figure = _draw(store, ablating, problem, mine, baselines)
    shown = _tables(ablating.unit, mine, baselines, found)
    head = f" ({problem.setting})" if problem.setting else ""
    tables += [(f"{name}{head}", rows) for name, rows in shown.items()]
    sections += [
      (f"Curves{head}", f"![](figures/{figure})\n"),
      ("", f"{ablation.disjoint(values)}\n"),
      *((f"{n}{head}", report.markdown(rows)) for n, rows in shown.items()),
    ]
  report.write_report(store.root / "report.md", ablating.title, sections)
  store.write_result(
    {
      "experiment": ablating.name,
      "preset": PRESET.value,
      "config": store.config,
      "environment": where,
      "cells": [*cells, *untrained],
      "claims": [claim.as_json() for claim in claims],
    }
  )
  for title, rows in tables:
    cli.print_table(title, rows)


def _draw(
  store: Store,
  ablating: Ablation,
  problem: Problem,
  arms: Sequence[FinishedArm],
  baselines: Mapping[str, Mapping[str, float]],
) -> str:
  """Draws the figure of one setting and returns its file name."""
  cells = [cell for arm in arms for cell in arm.cells]
  name = f"{problem.setting or 'losses'}.png"
  figures.ladder_figure(
    store.figures / name,
    curves={arm.variant: (arm.steps, arm.losses) for arm in arms},
    finals=ablation.by_variant(cells, "loss", problem.setting),
    baselines={name: found["loss"] for name, found in baselines.items()},
    unit=ablating.unit,
    title=" ".join([ablating.title, problem.setting]),
    setup=f"{ablating.setup}; {len(problem.seeds)} seeds",
  )
  return name


def _tables(
  unit: str,
  arms: Sequence[FinishedArm],
  baselines: Mapping[str, Mapping[str, float]],
  claims: Sequence[stats.Claim],
) -> dict[str, report.Rows]:
  """The tables of one setting by their titles."""
  cells = [cell for arm in arms for cell in arm.cells]
  setting = arms[0].setting
  diverged = ablation.diverged(cells, setting)
  metrics = list(next(iter(baselines.values())))
  losses = [name for name in metrics if name.split(" on ")[0] == "loss"]
  titles = {name: f"{name}, {unit}" for name in losses}
  titles["loss_over_p"] = f"loss / p, {unit}"
  tables = {
    f"Held-out {titles.get(metric, metric.replace('_', ' '))}": (
      report.variant_table(
        ablation.by_variant(cells, metric, setting),
        diverged,
        {name: metrics[metric] for name, metrics in baselines.items()},
      )
    )
    for metric in metrics
  }
  for name in losses:
    differences = ablation.differences(
      ablation.by_variant(cells, name, setting)
    )
    title = name.replace("loss", "Paired differences", 1)
    tables[title] = report.comparison_table(differences)
  tables["Claims"] = report.claim_table(claims)
  return tables
