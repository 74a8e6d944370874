"""What all binaries that train share: flags, the run folder, arms in turn.

Not a binary.
"""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from absl import flags

from experiments.common import (
  app,
  multiprocess,
  progress,
  ray_cluster,
  ray_launcher,
)
from jaxlook.attention import layers_name, parse_layers
from jaxlook.runs.store import Store, Unseen, follow_store, open_store
from jaxlook.stats import myopia_gap
from jaxlook.training import (
  FinishedArm,
  MeshShape,
  Problem,
  SavedArm,
  Stopped,
  TrainConfig,
  multihost,
  parse_mesh,
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
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Sequences a step.")
MICROBATCHES = flags.DEFINE_integer(
  "microbatches",
  None,
  "Parts of a batch, one after the other: less memory, faster on a CPU.",
)
BFLOAT16 = flags.DEFINE_bool(
  "bfloat16",
  None,
  "Multiply in bfloat16 in training and evaluation; parameters are float32.",
)
REMAT = flags.DEFINE_bool(
  "remat", None, "Compute blocks again in the backward pass: less memory."
)
LOSS_TOKENS = flags.DEFINE_integer(
  "loss_tokens", None, "Tokens whose logits exist at a time; all by default."
)
# Each replaces the field of its name.
_TRAINING = (
  *(STEPS, LEARNING_RATE, BATCH_SIZE, MICROBATCHES),
  *(BFLOAT16, REMAT, LOSS_TOKENS),
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

flags.adopt_module_key_flags(multiprocess)

# How small models are trained, but for steps and batch.
small_training = functools.partial(
  TrainConfig, learning_rate=3e-3, warmup_fraction=0.05, clip_norm=1.0
)


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
    The same with the values of those of `_TRAINING` that are given.

  Raises:
    UsageError: a flag is out of range.
  """
  given: dict[str, Any] = {
    flag.name: flag.value for flag in _TRAINING if flag.value is not None
  }
  if STEPS.value is not None:
    kept = (step for step in train.keep_steps if step <= STEPS.value)
    given["keep_steps"] = tuple(kept)
  with app.naming(*(flag.name for flag in _TRAINING)):
    return dataclasses.replace(train, **given)


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
    with app.naming("attention"):
      specs = parse_layers(text, layers, heads)
    taught = any(spec.source == "teacher" for layer in specs for spec in layer)
    if taught and not local:
      raise app.UsageError(
        "attention", f"{text!r} needs a teacher, and no model is trained first"
      )
    names.append(layers_name(specs))
  return tuple(dict.fromkeys([myopia_gap.CAUSAL, *names]))


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
      raise app.UsageError(
        "attention",
        f"{variant!r} changes the forward pass; only forms that cut gradient"
        " alone can be compared here",
      )
  return variants


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
  with app.naming("out"):
    return multihost.leader_first(
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
    later: arms that another call trains; the time left counts them.

  Returns:
    The arms in order.

  Raises:
    UsageError: `--mesh`, `--launcher` or `--launcher_resources` does not fit.
    SystemExit: the run was asked to stop; the same command goes on from there.
  """
  teachers = [
    teacher[problem.setting] if isinstance(teacher, Mapping) else teacher
    for problem, _ in todo
  ]
  if LAUNCHER.value is None:
    return _in_turn(store, todo, teachers, later)
  if multihost.joined():
    raise app.UsageError("launcher", "cannot be given with --distributed")
  with app.naming("launcher_resources"):
    resources = ray_cluster.parse_resources(LAUNCHER_RESOURCES.value)
  return ray_launcher.on_ray(store, todo, resources, teachers, _mesh(), later)


def _mesh() -> MeshShape | None:
  """What `--mesh` says."""
  if MESH.value is None:
    return None
  with app.naming("mesh"):
    return parse_mesh(MESH.value)


def _in_turn(
  store: Store,
  todo: Sequence[tuple[Problem, str]],
  teachers: Sequence[SavedArm | None],
  later: Sequence[tuple[Problem, str]],
) -> list[FinishedArm]:
  """Trains the arms one after the other, in this process and its fellows."""
  mesh = _mesh()
  if mesh is not None:
    with app.naming("mesh"):
      for problem, _ in todo:
        mesh.check(len(problem.seeds), problem.train)
  stop = app.Stop()
  shown = progress.over(todo, later)

  def one(
    problem: Problem, variant: str, teacher: SavedArm | None
  ) -> FinishedArm:
    name = " ".join(part for part in (problem.setting, variant) if part)
    reporter = shown.arm(name, progress.step_cost(problem))
    try:
      if multihost.max_over_processes(stop()):
        raise Stopped(0)
      return run_arm(
        store,
        problem,
        variant,
        teacher=teacher,
        report=reporter,
        should_stop=stop,
        mesh=mesh,
      )
    except Unseen as error:
      raise app.UsageError("out", str(error)) from error
    except Stopped as stopped:
      halt(f"{name} {stopped}")

  def halt(where: str) -> NoReturn:
    shown.close()
    if multihost.leads():
      print(
        f"{where}; the same command with --out={store.root} goes on from there",
        file=sys.stderr,
      )
    sys.exit(multihost.max_over_processes(stop.status))

  with contextlib.closing(shown):
    trained = [
      one(*arm, teacher) for arm, teacher in zip(todo, teachers, strict=True)
    ]
    if later and multihost.max_over_processes(stop()):
      # The next call would listen anew.
      halt(f"stopped after {len(trained)} arms")
  if not later:
    multiprocess.go_alone()
  return trained
