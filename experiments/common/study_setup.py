"""The study that the flags ask for: which models are taken apart.

Not a binary. A study takes trained models apart: those that it trains itself
on `--task`, those of a run folder (`--model=RUN`, at `--step`), or one
pretrained folder (`--model=DIR`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments.common import (
  app,
  precache_setup,
  presets,
  run_folder,
  shared_flags,
  task_setup,
  text_corpus,
  text_setup,
  train_arms,
  trained_models,
)
from experiments.common.shared_flags import MODEL, STEP, TASK
from experiments.common.study import Study
from jaxlook.attention import Variant
from jaxlook.numerals import counted
from jaxlook.tasks.precache import Precache
from jaxlook.training import SavedArm

# What flags mean to studies, where it is not what they mean to others; to those
# that only train; and to those of tokens.
TRAINING_SAYS = {"p": "Probability that the sum is asked for."}
SAYS = {
  "p": "Probability that the sum is asked for; with --model=RUN, which of its"
  " settings to study.",
  "attention": "Variant to train beside causal, such as horizon:4, or"
  " causal,myopic with one form per layer; with --model=RUN, arm to study;"
  " repeat for several.",
}
TOKENS_SAYS = SAYS | {"task": "Must be text, as precache has no tokens."}
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


def values(
  *,
  precache: Mapping[str, precache_setup.PrecacheConfig] | None = PRECACHE,
  text: Mapping[str, text_setup.TextConfig] = TEXT,
  **more: Any,
) -> dict[str, Any]:
  """What the chosen preset says of the task's models, for `--help`.

  Args:
    precache: as `build` has it.
    text: as `build` has it.
    **more: other defaults, by flag.
  """
  if precache is None:
    return presets.values(text, task="text", **more)
  on_text = TASK.value == "text"
  return presets.values(text if on_text else precache, **more)


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
    variants: names of the arms to study where no flag says so.
    precache: scales of the pre-caching task; None for a study of tokens, which
      trains on text whether or not a flag says so.
    text: scales of the text task.

  Returns:
    The study; nothing is trained yet.

  Raises:
    UsageError: a flag's value cannot be used, or not with another's.
  """
  if not MODEL.value:
    return _to_train(name, title, variants, precache, text)
  folder = Path(MODEL.value)
  of_run = trained_models.is_run(folder)
  more = ("length",) if of_run else ("attention", "p")
  for flag in (*_SETTLED, *more):
    if flags.FLAGS[flag].value != flags.FLAGS[flag].default:
      raise app.UsageError(flag, "cannot be combined with --model")
  if of_run:
    study = _of_run(name, title, folder)
    _check_text("model", precache is not None or study.on_text)
    return study
  if STEP.value is not None:
    raise app.UsageError("step", f"needs a run folder, which {folder} is not")
  return _of_pretrained(name, title, folder, presets.chosen(text))


def _check_text(flag: str, on_text: bool) -> None:
  if not on_text:
    raise app.UsageError(flag, "must be text: this binary studies tokens")


def _to_train(
  name: str,
  title: str,
  variants: Sequence[str],
  precache: Mapping[str, precache_setup.PrecacheConfig] | None,
  text: Mapping[str, text_setup.TextConfig],
) -> Study:
  """Models that the study trains itself."""
  if STEP.value is not None:
    raise app.UsageError("step", "needs --model, a run folder")
  if precache is None and not flags.FLAGS["task"].using_default_value:
    _check_text("task", TASK.value == "text")
  held = {
    setting: value
    for setting, value in run_folder.held(name).items()
    if setting != "p"  # A study has one.
  }
  if TASK.value == "text" or precache is None:
    config = text_setup.build_config(text, held)
    shape = text_setup.shape(config, vocab_size=2)
    # Before the text is read, which takes a while.
    chosen = train_arms.chosen_variants(variants, shape, held=held)
    return _on_text(name, title, chosen, config)
  study = _on_precache(
    name, title, (), precache_setup.build_config(precache, held)
  )
  chosen = train_arms.chosen_variants(variants, study.problem.model, held=held)
  return dataclasses.replace(study, variants=chosen)


def _on_precache(
  name: str,
  title: str,
  variants: tuple[Variant, ...],
  config: precache_setup.PrecacheConfig,
) -> Study:
  """Models of the pre-caching task."""
  if len(config.p) != 1:
    raise app.UsageError("p", f"must be one probability, not {len(config.p)}")
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


def _on_text(
  name: str,
  title: str,
  variants: tuple[Variant, ...],
  config: text_setup.TextConfig,
  about: Mapping[str, Any] | None = None,
) -> Study:
  """Models of text, read as an arm's `about` says where there is one."""
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


def _of_run(name: str, title: str, folder: Path) -> Study:
  """Models that a run folder holds."""
  arms = trained_models.finished_arms(folder)
  on_sums = all(map(_is_precaching, arms))
  if not on_sums and not all("corpus_sha256" in arm.about for arm in arms):
    raise app.UsageError(
      "model",
      f"{folder} was trained on a task that studies do not know; give a run on"
      " text or on the pre-caching task",
    )
  arms = _of_one_setting(arms, folder)
  saved = trained_models.chosen_arms(arms, folder)
  if STEP.value is not None:
    with app.blaming("model"):
      for arm in saved:
        arm.params(STEP.value)
  first, variants = arms[0], tuple(arm.attention for arm in saved)
  if on_sums:
    study = _on_precache(name, title, variants, _precache_config(first))
  else:
    config = _text_config(first)
    study = _on_text(name, title, variants, config, first.about)
    # A config knows GPT-2's shapes only.
    study = dataclasses.replace(
      study, problem=dataclasses.replace(study.problem, model=first.model)
    )
    if dict(first.about) != study.problem.about:
      raise app.UsageError(
        "corpus", f"must be the text that {folder} was trained on"
      )
  return dataclasses.replace(
    study,
    saved=tuple(saved),
    config={**study.config, "model": str(folder), "step": STEP.value},
    setup=f"{study.setup}; {app.printable(folder.name)}"
    + ("" if STEP.value is None else f" after {counted(STEP.value, 'step')}"),
  )


def _is_precaching(arm: SavedArm) -> bool:
  """Whether an arm was trained on the pre-caching task; others have terms."""
  known = {field.name for field in dataclasses.fields(Precache)}
  return {"terms", "frequency"} <= arm.about.keys() <= known


def _of_one_setting(arms: Sequence[SavedArm], folder: Path) -> list[SavedArm]:
  """The arms of the setting that `--p` names, or of the only one."""
  if shared_flags.P.value is not None:
    asked = app.numbers("p", shared_flags.P.value, float)
    known = sorted({arm.about["p"] for arm in arms if "p" in arm.about})
    arms = [arm for arm in arms if [arm.about.get("p")] == asked]
    if not arms:
      raise app.UsageError("p", f"must be one of {known}, those of {folder}")
  # The first setting of a run that grew has no name.
  if len({arm.about.get("p", arm.setting) for arm in arms}) > 1:
    flag = "p" if "p" in arms[0].about else "model"
    raise app.UsageError(flag, f"must choose one of the settings of {folder}")
  return list(arms)


def _precache_config(arm: SavedArm) -> precache_setup.PrecacheConfig:
  """The config of an arm that was trained on the pre-caching task."""
  task = Precache(**arm.about)
  return precache_setup.PrecacheConfig(
    p=(task.p,),
    terms=task.terms,
    frequency=task.frequency,
    first=task.first,
    positions=arm.model.positions,
    train=arm.train,
    **_shape(arm),
  )


def _text_config(arm: SavedArm) -> text_setup.TextConfig:
  """The config of an arm that was trained on text."""
  return text_setup.TextConfig(
    init_std=arm.model.init_std,
    mlp_width=arm.model.mlp_width,
    tied_head=arm.model.tied_head,
    train=arm.train,
    **_shape(arm),
  )


def _shape(arm: SavedArm) -> dict[str, Any]:
  """What the configs of both tasks say of an arm's models."""
  return {
    "layers": arm.model.layers,
    "width": arm.model.width,
    "heads": arm.model.heads,
    # A pretrained model may know more positions than it was trained on here.
    "length": arm.about.get("length", arm.model.max_length),
    "seeds": len(arm.seeds),
    "seed_offset": arm.seeds[0],
  }


def _of_pretrained(
  name: str, title: str, folder: Path, preset: text_setup.TextConfig
) -> Study:
  """The one model of a Hugging Face folder."""
  subject = trained_models.pretrained(folder)
  shape = subject.decoder.config
  length = shared_flags.LENGTH.value or min(preset.length, shape.max_length)
  if not 1 <= length <= shape.max_length:
    raise app.UsageError(
      "length", f"must lie in 1..{shape.max_length}, not {length}"
    )
  config = dataclasses.replace(
    preset,
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
      f"must have at most the {shape.vocab_size} ids of the model, not"
      f" {text.vocab_size}",
    )
  problem = dataclasses.replace(text_setup.problem(config, text), model=shape)
  trained_models.check_losses(subject, problem, folder)
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
    setup=f"{app.printable(folder.name)}, {task_setup.shape_line(shape)}, on"
    f" {text_corpus.name()}{text_corpus.shared_part(text)},"
    f" {text.train.tokenizer} tokens; N = {length}",
    unit=text_setup.UNIT,
    source=text_setup.SOURCE,
    pretrained=subject,
  )
