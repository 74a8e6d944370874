"""Trains the arms of an experiment, in turn or on a cluster."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from experiments.common import (
  app,
  arms_in_turn,
  disk_space,
  memory_check,
  presets,
  ray_cluster,
  ray_launcher,
  run_folder,
)
from experiments.common.shared_flags import (
  ATTENTION,
  LAUNCHER,
  LAUNCHER_RESOURCES,
  MESH,
  PRESET,
)
from jaxlook.attention import Variant, parse_variant
from jaxlook.models import DecoderConfig
from jaxlook.runs.store import (
  PATIENCE,
  Store,
  follow_store,
  open_store,
)
from jaxlook.stats import myopia_gap
from jaxlook.training import (
  FinishedArm,
  MeshShape,
  Problem,
  SavedArm,
  in_parts,
  join_parts,
  multihost,
  parse_mesh,
)


def named_variants(
  names: Sequence[str], model: DecoderConfig
) -> tuple[Variant, ...]:
  """Variants of a model that no flag chooses.

  Args:
    names: from a table of constants.
    model: the decoder's shape.

  Returns:
    One a name, in order.
  """
  return tuple(parse_variant(name, model.layers, model.heads) for name in names)


def chosen_variants(
  default: Sequence[str],
  model: DecoderConfig,
  *,
  held: presets.Held = presets.NEW_RUN,
  trains_teacher: bool = False,
) -> tuple[Variant, ...]:
  """The variants to train, as `--attention` says; causal comes first.

  Args:
    default: names of the experiment's own, for a new run where `--attention`
      is not given.
    model: the decoder's shape.
    held: the config of the run that grows; its variants are kept.
    trains_teacher: whether causal is trained before variants that need a
      teacher.

  Returns:
    Distinct variants, in order.

  Raises:
    UsageError: a form needs a teacher, and none is trained.
  """
  layers, heads = model.layers, model.heads
  variants = [parse_variant(myopia_gap.CAUSAL, layers, heads)]
  kept = held.get("variants", ())
  for text in (*kept, *(ATTENTION.value or (() if kept else default))):
    variant = parse_variant(text, layers, heads)
    if variant.needs_teacher and not trains_teacher:
      raise app.UsageError(
        "attention",
        f"{text!r} needs a teacher, which this binary does not train",
      )
    variants.append(variant)
  return tuple(dict.fromkeys(variants))


def variants_that_only_cut(
  default: Sequence[str],
  model: DecoderConfig,
  held: presets.Held = presets.NEW_RUN,
) -> tuple[Variant, ...]:
  """The variants to train, of which none changes the forward pass.

  For measures that compare what variants have learned to do with one and the
  same network.

  Args:
    default: see `chosen_variants`.
    model: see `chosen_variants`.
    held: see `chosen_variants`.

  Returns:
    As `chosen_variants`.

  Raises:
    UsageError: a form lets positions read less than causal attention does, or
      as `chosen_variants`.
  """
  variants = chosen_variants(default, model, held=held)
  for variant in variants:
    if not variant.keeps_forward:
      raise app.UsageError(
        "attention",
        f"{variant.name!r} changes the forward pass; give variants that only"
        " cut gradient",
      )
  return variants


def open_run(
  name: str, config: Mapping[str, Any], problems: Sequence[Problem] = ()
) -> Store:
  """Opens the run folder of an experiment, as `--out` and the preset say.

  Args:
    name: the experiment's.
    config: the resolved config, plain data.
    problems: what is trained unless it has been; none where nothing is.

  Returns:
    The store, to be closed.

  Raises:
    UsageError: `--out` cannot hold this run, or this machine the training.
  """
  if PRESET.value == "smoke":
    # Most of a smoke run is compiling, and optimisations double that.
    jax.config.update("jax_disable_most_optimizations", True)
  out = run_folder.path(name)
  # What another machine has trained can be reported here.
  with app.blaming("out"):
    trained = any(out.glob("arms/*/result.json"))
  if not trained:
    for each in problems:
      memory_check.check_training(each.model, each.train, len(each.seeds))
  with app.blaming("out"):
    store = multihost.leader_first(
      lambda: open_store(
        out, config, grows=run_folder.GROWS, patience=PATIENCE
      ),
      lambda: follow_store(out, config),
    )
  # Processes that train together, and workers, must not be disturbed.
  if problems and LAUNCHER.value is None and not multihost.joined():
    store.share()
  return store


def open_experiment(
  name: str,
  variants: Sequence[Variant],
  config: Any,
  problems: Sequence[Problem],
) -> Store:
  """Opens the run folder of an experiment that its config identifies.

  Args:
    name: the experiment's.
    variants: the arms of every setting.
    config: a dataclass, with the flags' values.
    problems: one for each setting.

  Returns:
    The store, to be closed.

  Raises:
    UsageError: `--out` cannot hold this run, or this machine the training.
  """
  return open_run(
    name,
    {
      "variants": [variant.name for variant in variants],
      "experiment": name,
      **dataclasses.asdict(config),
    },
    problems,
  )


def train_all(
  store: Store,
  todo: Sequence[tuple[Problem, Variant]],
  teacher: SavedArm | Mapping[str, SavedArm] | None = None,
  later: Sequence[tuple[Problem, Variant]] = (),
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
    UsageError: `--mesh`, `--launcher` or `--launcher_resources` does not fit,
      or the disk of `--out` is too full.
    SystemExit: the run was asked to stop; the same command continues it.
  """
  parts = [
    [(part, variant) for part in in_parts(store, problem, variant)]
    for problem, variant in todo
  ]
  trained = iter(
    _train_parts(store, list(itertools.chain(*parts)), teacher, later)
  )
  return [
    join_parts(store, *arm, list(itertools.islice(trained, len(mine))))
    for arm, mine in zip(todo, parts, strict=True)
  ]


def _train_parts(
  store: Store,
  todo: Sequence[tuple[Problem, Variant]],
  teacher: SavedArm | Mapping[str, SavedArm] | None,
  later: Sequence[tuple[Problem, Variant]],
) -> list[FinishedArm]:
  """Trains what `train_all` has cut into seeds that are trained together."""
  teachers = [
    teacher[problem.setting] if isinstance(teacher, Mapping) else teacher
    for problem, _ in todo
  ]
  disk_space.check(store, [*todo, *later])
  if LAUNCHER.value is None:
    return arms_in_turn.train_in_turn(store, todo, teachers, _mesh(), later)
  if multihost.joined():
    raise app.UsageError("launcher", "cannot be combined with --distributed")
  with app.blaming("out"), store.alone():
    pass  # What is added to the run's config is written.
  with app.blaming("launcher_resources"):
    resources = ray_cluster.parse_resources(LAUNCHER_RESOURCES.value or "")
  return ray_launcher.train_on_ray(
    store, todo, resources, teachers, _mesh(), later
  )


def train_with_teachers(
  store: Store, todo: Sequence[tuple[Problem, Variant]]
) -> list[FinishedArm]:
  """Trains arms of which some read the context of the causal model.

  Args:
    store: the run store.
    todo: problem and variant of each arm. A variant that needs a teacher reads
      the causal arm of its problem, which must be among them.

  Returns:
    The arms without a teacher, then those with one, each in order.

  Raises:
    UsageError: see `train_all`.
    SystemExit: see `train_all`.
  """
  alone = [arm for arm in todo if not arm[1].needs_teacher]
  taught = [arm for arm in todo if arm[1].needs_teacher]
  trained = train_all(store, alone, later=taught)
  if not taught:
    return trained
  return [*trained, *train_all(store, taught, causal_arms(trained))]


def causal_arms(arms: Sequence[FinishedArm]) -> dict[str, SavedArm]:
  """The causal arm of each setting, to be a teacher."""
  return {
    arm.setting: arm.saved() for arm in arms if arm.variant == myopia_gap.CAUSAL
  }


def _mesh() -> MeshShape | None:
  """What `--mesh` says."""
  if MESH.value is None:
    return None
  return parse_mesh(MESH.value)
