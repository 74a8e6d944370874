"""The flow that the studies share: which models, then findings, then report.

Not a binary. A study takes trained models apart: those that it trains itself
on `--task`, those of a run folder (`--model=RUN`, at `--step`), or one
pretrained folder (`--model=DIR`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments.common import (
  app,
  multiprocess,
  precache_setup,
  text_corpus,
  text_setup,
  train_arms,
  training_flags,
)
from jaxlook import models
from jaxlook.attention import Variant, parse_variant
from jaxlook.models import Decoder, huggingface
from jaxlook.runs.store import Arm, Store
from jaxlook.tasks.precache import Precache
from jaxlook.tasks.text import Text
from jaxlook.training import (
  FinishedArm,
  Problem,
  SavedArm,
  read_arm,
  saved_params,
)

TASK = flags.DEFINE_enum(
  "task", "precache", ("precache", "text"), "What the models are trained on."
)
MODEL = flags.DEFINE_string(
  "model", None, "A run folder, or a Hugging Face folder, to study instead."
)
STEP = flags.DEFINE_integer(
  "step", None, "With --model=RUN: after how many steps; the last by default."
)

flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(precache_setup)
flags.adopt_module_key_flags(text_setup)

UNTRAINED = "untrained"
PRETRAINED = "pretrained"
# What a trained model has settled, so that no flag can change it.
_SETTLED = (
  *("task", "steps", "seeds", "layers", "width", "heads"),
  *("terms", "frequency", "first", "positions"),
  *("learning_rate", "batch_size", "bfloat16", "remat", "loss_tokens"),
)

_CPU, _PAPER = (precache_setup.PRESETS[preset] for preset in ("cpu", "paper"))
PRECACHE = precache_setup.PRESETS | {
  # Sources 1..4 back; sin(3 x) is not to be had from random features.
  "cpu": dataclasses.replace(
    _CPU,
    frequency=3.0,
    length=16,
    train=dataclasses.replace(_CPU.train, steps=1000, learning_rate=3e-3),
  ),
  "paper": dataclasses.replace(_PAPER, p=(1.0,)),
}
TEXT = text_setup.PRESETS


@dataclasses.dataclass(frozen=True)
class Study:
  """What is studied.

  Attributes:
    name: the experiment's.
    title: of report and figures.
    problem: the task, with its held-out data; what models are trained on.
    variants: of the arms to study, in order; none where one pretrained model
      is.
    config: the resolved config, plain data.
    setup: task, model and training in a line.
    unit: of the loss.
    source: of the published claims about this task.
    saved: trained arms by variant, with `--model=RUN`; empty otherwise.
    loaded: parameters from a Hugging Face folder; None otherwise.
  """

  name: str
  title: str
  problem: Problem
  variants: tuple[Variant, ...]
  config: Mapping[str, Any]
  setup: str
  unit: str
  source: str
  saved: Mapping[str, SavedArm] = dataclasses.field(default_factory=dict)
  loaded: Any = None

  @property
  def on_text(self) -> bool:
    """Whether the task is text."""
    return isinstance(self.problem.task, Text)


@dataclasses.dataclass(frozen=True)
class Subject:
  """A variant's models, one for each seed that did not diverge.

  Attributes:
    variant: the attention's flag form, `UNTRAINED` or `PRETRAINED`.
    decoder: the model under the variant.
    params: parameters with a leading seed axis E.
    seeds: the seeds of that axis.
    arm: the folder they are from; None for pretrained ones.
  """

  variant: str
  decoder: Decoder
  params: Any
  seeds: tuple[int, ...]
  arm: SavedArm | None = None

  def at(self, step: int) -> "Subject":
    """The same seeds after another step; `UNTRAINED` after none."""
    if self.arm is None:
      raise ValueError(f"{self.variant} models have no other steps")
    return dataclasses.replace(
      self,
      variant=self.variant if step else UNTRAINED,
      params=_alive(self.arm.params(step), self.arm, self.seeds),
    )


def build(
  name: str,
  title: str,
  variants: Sequence[str],
  *,
  precache: Mapping[str, precache_setup.PrecacheConfig] | None = PRECACHE,
  text: Mapping[str, text_setup.TextConfig] = TEXT,
) -> Study:
  """Checks the flags and says what is to be studied.

  Args:
    name: the experiment's.
    title: of report and figures.
    variants: the arms to study where no flag says so.
    precache: scales of the pre-caching task; None for a study of tokens, which
      trains on text whether or not a flag says so.
    text: scales of the text task.

  Returns:
    The study; nothing is trained yet.

  Raises:
    UsageError: a flag's value cannot be used, or not with another's.
  """
  if not MODEL.value:
    if STEP.value is not None:
      raise app.UsageError("step", "is given without --model")
    if precache is None and not flags.FLAGS["task"].using_default_value:
      _check_text("task", TASK.value == "text")
    if TASK.value == "text" or precache is None:
      config = text_setup.build_config(text)
      shape = text_setup.shape(config, vocab_size=2)
      chosen = train_arms.chosen_variants(variants, shape)
      return _on_text(name, title, chosen, config)
    study = _on_precache(name, title, (), precache_setup.build_config(precache))
    chosen = train_arms.chosen_variants(variants, study.problem.model)
    return dataclasses.replace(study, variants=chosen)
  folder = Path(MODEL.value)
  of_run = (folder / "arms").is_dir()
  more = ("length",) if of_run else ("attention", "p")
  for flag in (*_SETTLED, *more):
    if flags.FLAGS[flag].value != flags.FLAGS[flag].default:
      raise app.UsageError(flag, "is given in vain: --model has settled it")
  if of_run:
    study = _on_run(name, title, folder)
    _check_text("model", precache is not None or study.on_text)
    return study
  if STEP.value is not None:
    raise app.UsageError("step", f"{folder} is no run folder")
  return _on_pretrained(name, title, folder, text)


def _check_text(flag: str, on_text: bool) -> None:
  if not on_text:
    raise app.UsageError(flag, "must be text: this study is of tokens")


def _on_precache(name, title, variants, config) -> Study:
  """Models to be trained on the pre-caching task."""
  if len(config.p) != 1:
    raise app.UsageError("p", "a study takes one probability")
  return Study(
    name=name,
    title=title,
    problem=precache_setup.problem(config, config.p[0]),
    variants=variants,
    config={"experiment": name, **dataclasses.asdict(config)},
    setup=precache_setup.setup(config),
    unit=precache_setup.UNIT,
    source=precache_setup.SOURCE,
  )


def _on_text(name, title, variants, config, about=None) -> Study:
  """Models to be trained on text, or that were."""
  about = about or {}
  text = text_corpus.read_text(
    config.length,
    config.train.batch_size,
    tokenizer=about.get("tokenizer"),
    documents=about.get("documents", False),
  )
  return Study(
    name=name,
    title=title,
    problem=text_setup.problem(config, text),
    variants=variants,
    config={
      "experiment": name,
      "text": text_corpus.about(text),
      **dataclasses.asdict(config),
    },
    setup=text_setup.setup(config, text),
    unit=text_setup.UNIT,
    source=text_setup.SOURCE,
  )


def _on_run(name: str, title: str, folder: Path) -> Study:
  """Models that a run folder holds."""
  with app.naming("model"):
    roots = sorted((folder / "arms").iterdir())
    arms = [read_arm(root) for root in roots if Arm(root).finished]
    if not arms:
      raise ValueError(f"{folder} holds no finished arm")
  if flags.FLAGS["p"].value is not None:
    with app.naming("p"):
      asked = [float(p) for p in flags.FLAGS["p"].value]
    arms = [arm for arm in arms if [arm.about.get("p")] == asked]
    if not arms:
      raise app.UsageError("p", f"{folder} holds no arm of that setting")
  if len({arm.setting for arm in arms}) > 1:
    flag = "p" if "p" in arms[0].about else "model"
    raise app.UsageError(flag, f"{folder} has several settings, not one")
  saved = {arm.variant: arm for arm in arms if not arm.attention.needs_teacher}
  if training_flags.ATTENTION.value:
    shape = arms[0].model
    with app.naming("attention"):
      asked = [
        parse_variant(text, shape.layers, shape.heads).name
        for text in training_flags.ATTENTION.value
      ]
    for variant in asked:
      if variant not in saved:
        raise app.UsageError(
          "attention", f"{folder} has no {variant!r}, only {', '.join(saved)}"
        )
    saved = {variant: saved[variant] for variant in asked}
  first = arms[0]
  if STEP.value is not None:
    with app.naming("step"):
      for arm in saved.values():
        arm.params(STEP.value)
  shape = {
    field: getattr(first.model, field) for field in ("layers", "width", "heads")
  }
  # A pretrained model may know more positions than it was trained on here.
  length = first.about.get("length", first.model.max_length)
  shape |= {"length": length, "seeds": len(first.seeds)}
  variants = tuple(arm.attention for arm in saved.values())
  if "terms" in first.about:
    task = Precache(**first.about)
    config = precache_setup.PrecacheConfig(
      p=(task.p,),
      terms=task.terms,
      frequency=task.frequency,
      first=task.first,
      positions=first.model.positions,
      train=first.train,
      **shape,
    )
    study = _on_precache(name, title, variants, config)
  else:
    config = text_setup.TextConfig(
      init_std=first.model.init_std,
      mlp_width=first.model.mlp_width,
      tied_head=first.model.tied_head,
      train=first.train,
      **shape,
    )
    study = _on_text(name, title, variants, config, first.about)
    # A config knows GPT-2's shapes only.
    study = dataclasses.replace(
      study, problem=dataclasses.replace(study.problem, model=first.model)
    )
    if dict(first.about) != study.problem.about:
      raise app.UsageError("corpus", f"is not the text of {folder}")
  return dataclasses.replace(
    study,
    saved=saved,
    config={**study.config, "model": str(folder), "step": STEP.value},
    setup=f"{study.setup}; {folder.name}"
    + ("" if STEP.value is None else f" after {STEP.value} steps"),
  )


def _on_pretrained(name, title, folder, presets) -> Study:
  """The one model of a Hugging Face folder."""
  with app.naming("model"):
    loaded = huggingface.load(folder)
  shape = loaded.config
  config = presets[training_flags.PRESET.value]
  length = training_flags.LENGTH.value or min(config.length, shape.max_length)
  if not 1 <= length <= shape.max_length:
    raise app.UsageError(
      "length", f"must lie in 1..{shape.max_length}, not {length}"
    )
  config = dataclasses.replace(
    config,
    length=length,
    layers=shape.layers,
    width=shape.width,
    heads=shape.heads,
    seeds=1,
  )
  text = text_corpus.read_text(
    length, config.train.batch_size, tokenizer=str(folder)
  )
  if text.vocab_size > (shape.vocab_size or 0):
    raise app.UsageError(
      "tokenizer",
      f"has {text.vocab_size} ids, the model only {shape.vocab_size}",
    )
  problem = dataclasses.replace(text_setup.problem(config, text), model=shape)
  return Study(
    name=name,
    title=title,
    problem=problem,
    variants=(),
    config={
      "experiment": name,
      "text": text_corpus.about(text),
      "length": length,
      "model": str(folder),
    },
    setup=f"{folder.name}, {shape.layers} layers, width {shape.width}, on"
    f" {text_corpus.name()}, {text.train.tokenizer} tokens; N = {length}",
    unit=text_setup.UNIT,
    source=text_setup.SOURCE,
    loaded=loaded.params,
  )


def opened(study: Study) -> Store:
  """Opens the run folder of a study; see `train_arms.open_run`."""
  names = [variant.name for variant in study.variants]
  if study.loaded is not None:
    names = [PRETRAINED]
  return train_arms.open_run(study.name, {"variants": names, **study.config})


def subjects(store: Store, study: Study) -> list[Subject]:
  """The models to study, trained now where they are not there yet.

  Args:
    store: the run store.
    study: what to study.

  Returns:
    One subject a variant, in order.

  Raises:
    SystemExit: the run was asked to stop; the same command goes on from there.
  """
  if study.loaded is not None or study.saved:
    multiprocess.go_alone()
  if study.loaded is not None:
    params = jax.tree.map(lambda x: np.asarray(x)[None], study.loaded)
    return [Subject(PRETRAINED, Decoder(study.problem.model), params, (0,))]
  saved = study.saved
  if not saved:
    todo = [(study.problem, variant) for variant in study.variants]
    saved = {
      arm.variant: read(arm) for arm in train_arms.train_all(store, todo)
    }
  return [subject(arm) for arm in saved.values()]


def read(arm: FinishedArm) -> SavedArm:
  """The folder of an arm that was trained now or read."""
  return read_arm(arm.root)


def subject(arm: SavedArm) -> Subject:
  """The models of an arm, after `--step` if it is given."""
  cells = Arm(arm.root).result()["cells"]
  alive = {cell["seed"] for cell in cells if cell["status"] == "done"}
  seeds = tuple(seed for seed in arm.seeds if seed in alive)
  if not seeds:
    raise app.UsageError("seeds", f"all seeds of {arm.variant} diverged")
  params = _alive(arm.params(STEP.value), arm, seeds)
  return Subject(
    arm.variant if STEP.value != 0 else UNTRAINED,
    arm.decoder,
    params,
    seeds,
    arm,
  )


def untrained(study: Study, of: Subject) -> Subject:
  """Fresh models of the same seeds: the control of every probe."""
  if of.arm is not None:
    # Drawn from the seeds even where the arm started from pretrained weights.
    fresh = saved_params(
      of.arm.root, of.arm.model, of.arm.train, of.arm.seeds, step=0
    )
    params = _alive(fresh, of.arm, of.seeds)
    return dataclasses.replace(of, variant=UNTRAINED, params=params)
  params = models.init(study.problem.model, jax.random.key(0))
  params = jax.tree.map(lambda x: x[None], params)
  return dataclasses.replace(of, variant=UNTRAINED, params=params)


def _alive(params: Any, arm: SavedArm, seeds: Sequence[int]) -> Any:
  kept = np.array([arm.seeds.index(seed) for seed in seeds])
  return jax.tree.map(lambda x: np.asarray(x)[kept], params)


def lost(subjects: Sequence[Subject]) -> dict[str, list[int]]:
  """The seeds of each variant that diverged; none for most."""
  found = {}
  for each in subjects:
    every = each.arm.seeds if each.arm is not None else each.seeds
    gone = [seed for seed in every if seed not in each.seeds]
    if gone and each.variant != UNTRAINED:
      found[each.variant] = gone
  return found
