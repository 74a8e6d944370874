"""Couplets as `experiments.planning` trains on them.

Not a binary: its scales, its languages, its problems and held-out couplets.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from experiments.common import app, presets, task_setup
from jaxlook.attention import Variant
from jaxlook.errors import SettingError
from jaxlook.models import DecoderConfig, scaled_init_std
from jaxlook.planning.couplets.measure_all import HeldOutCouplets
from jaxlook.tasks.couplets import Couplets, Route
from jaxlook.tasks.task import Batch
from jaxlook.training import Problem, TrainConfig, held_out_key


@dataclasses.dataclass(frozen=True)
class CoupletsConfig(presets.Seeded):
  """A scale of the experiment.

  Attributes:
    languages: what is trained on, one after the other.
    layers: layers of the model.
    width: width of its residual stream.
    heads: attention heads a layer.
    couplets: held-out RHY couplets that are tested; as `HeldOutCouplets` says,
      some things are measured on a part of them, others on four times as many.
    train: how the models are trained.
  """

  languages: tuple[Couplets, ...]
  layers: int
  width: int
  heads: int
  couplets: int
  train: TrainConfig

  def tasks(self) -> dict[str, Couplets]:
    """The languages by their names in this run."""
    return {name(language, self): language for language in self.languages}


def _languages(forms: Sequence[str], base: Couplets) -> tuple[Couplets, ...]:
  """The languages of forms like `open/end_only`, in all else like one."""
  found = []
  for form in forms:
    route, *variants = form.split("/")
    for word in variants:
      if word not in ("end_only", "late_genre"):
        raise SettingError(
          "route",
          f"{form!r} has the unknown suffix /{word}; known are /end_only,"
          " /late_genre",
        )
    found.append(
      dataclasses.replace(
        base,
        route=cast(Route, route),
        end_only="end_only" in variants,
        late_genre="late_genre" in variants,
      )
    )
  return tuple(found)


_LOOKUP = _languages(
  ("open", "bottleneck", "open/end_only"),
  # FREE couplets, too, so that a model must read the genre.
  Couplets(p=0.75),
)

LOOKUP = {
  "smoke": CoupletsConfig(
    languages=(Couplets(p=0.5, fillers=1, modifiers=1),),
    layers=2,
    width=16,
    heads=2,
    seeds=2,
    couplets=64,
    train=presets.small_training(steps=20, batch_size=8, log_every=10),
  ),
  "cpu": CoupletsConfig(
    languages=_LOOKUP,
    layers=2,
    width=64,
    heads=4,
    seeds=3,
    couplets=1024,
    train=presets.small_training(steps=2500, batch_size=128, log_every=100),
  ),
  "paper": CoupletsConfig(
    languages=_LOOKUP,
    layers=4,
    width=128,
    heads=8,
    seeds=8,
    couplets=4096,
    train=presets.small_training(
      steps=10_000, batch_size=512, learning_rate=1e-3, log_every=100
    ),
  ),
}
"""Scales with `--key=lookup`."""

TALLY = {
  "smoke": CoupletsConfig(
    languages=(
      Couplets(p=0.5, key="tally", route="open", pairs=3, modifiers=1),
    ),
    layers=2,
    width=16,
    heads=2,
    seeds=2,
    couplets=64,
    train=presets.small_training(steps=20, batch_size=8, log_every=10),
  ),
  "cpu": CoupletsConfig(
    languages=(Couplets(p=0.9, key="tally", route="open", pairs=5),),
    layers=2,
    width=64,
    heads=4,
    seeds=3,
    couplets=1024,
    train=presets.small_training(
      steps=2500,
      batch_size=256,
      learning_rate=5e-3,
      microbatches=4,
      log_every=100,
    ),
  ),
  "paper": CoupletsConfig(
    languages=tuple(
      Couplets(p=0.9, key="tally", route="open", pairs=pairs)
      for pairs in (5, 9, 15)
    ),
    layers=2,
    width=128,
    heads=8,
    seeds=8,
    couplets=4096,
    train=presets.small_training(
      steps=50_000, batch_size=512, learning_rate=1e-3, log_every=100
    ),
  ),
}
"""Scales with `--key=tally`."""


def values(key: str, **more: Any) -> dict[str, Any]:
  """What the chosen preset says, for `--help`.

  Args:
    key: how line 1 gives the rhyme.
    **more: other defaults, by flag.
  """
  found = presets.values(LOOKUP if key == "lookup" else TALLY, **more)
  languages = found["languages"]
  return found | {
    "language": tuple(dict.fromkeys(map(_form, languages))),
    "p": tuple(dict.fromkeys(each.p for each in languages)),
    "pairs": tuple(dict.fromkeys(each.pairs for each in languages)),
  }


def build_config(
  key: str,
  *,
  forms: Sequence[str] | None = None,
  pairs: int | None = None,
  shares: Sequence[str] | None = None,
  held: presets.Held = presets.NEW_RUN,
) -> CoupletsConfig:
  """The preset with the flags' values.

  Args:
    key: how line 1 gives the rhyme.
    forms: of the languages, as `open/end_only`; None for the preset's.
    pairs: pairs of line 1 under `tally`; None for the preset's.
    shares: probabilities that a couplet rhymes, as texts, each of which makes a
      language of its own; None for the preset's.
    held: see `presets.resolve`.

  Raises:
    UsageError: a flag's value cannot be used.
  """
  config = presets.resolve(LOOKUP if key == "lookup" else TALLY, held)
  if config.layers < 2:
    raise app.UsageError(
      "layers",
      f"must be at least 2, not {config.layers}: one to store a plan, one to"
      " use it",
    )
  languages = config.languages
  if pairs is not None:
    if key != "tally":
      raise app.UsageError("pairs", "needs --key=tally")
    languages = tuple(
      dataclasses.replace(each, pairs=pairs) for each in languages
    )
  if forms:
    with app.mapping(route="language"):
      languages = _languages(forms, languages[0])
  if shares is not None:
    values = list(dict.fromkeys(app.numbers("p", shares, float)))
    if not values or not min(values) > 0.0:
      raise app.UsageError("p", "must be above 0, or no couplet rhymes")
    languages = tuple(
      dataclasses.replace(each, p=p) for each in languages for p in values
    )
  # The same language may be written in several ways.
  return dataclasses.replace(config, languages=tuple(dict.fromkeys(languages)))


def _form(language: Couplets) -> str:
  """A language as `--language` names it."""
  words = [language.route]
  words += ["end_only"] if language.end_only else []
  words += ["late_genre"] if language.late_genre else []
  return "/".join(words)


def name(language: Couplets, config: CoupletsConfig) -> str:
  """The name of a language: what tells it from the others of a run."""
  varied = []
  for field, text in (("p", "p={:g}"), ("pairs", "K={}")):
    if len({getattr(each, field) for each in config.languages}) > 1:
      varied.append(text.format(getattr(language, field)))
  return " ".join([_form(language), *varied])


def problems(config: CoupletsConfig) -> list[Problem]:
  """The languages with their models and training."""
  return [
    _problem(language, setting, config)
    for setting, language in config.tasks().items()
  ]


def _problem(
  language: Couplets, setting: str, config: CoupletsConfig
) -> Problem:
  """A language with its model and training."""
  model = DecoderConfig(
    layers=config.layers,
    width=config.width,
    heads=config.heads,
    max_length=language.length,
    vocab_size=language.vocab_size,
    tied_head=False,
    init_std=scaled_init_std(config.width),
  )
  return task_setup.problem(
    language,
    model,
    train=config.train,
    seeds=config.seed_range,
    setting=setting,
    barrier=language.barrier,
  )


def arms_to_train(
  problems: Sequence[Problem],
  variants: Sequence[Variant],
  *,
  compare_everywhere: bool,
) -> list[tuple[Problem, Variant]]:
  """Problem and variant of each arm.

  Args:
    problems: one for each language.
    variants: causal first.
    compare_everywhere: whether every variant is trained in end-only languages,
      too, as where `--attention` names them.

  Returns:
    The arms; in other end-only languages causal alone.
  """
  return [
    (problem, variant)
    for problem in problems
    for place, variant in enumerate(variants)
    if place == 0
    or compare_everywhere
    or not cast(Couplets, problem.task).end_only
  ]


def held_out(language: Couplets, config: CoupletsConfig) -> HeldOutCouplets:
  """Held-out couplets of a language, the same for all seeds and variants."""
  keys = list(jax.random.split(held_out_key(), 4))

  @functools.partial(jax.jit, static_argnums=(0, 2))
  def draw(p: float, key: jax.Array, size: int) -> Batch:
    return dataclasses.replace(language, p=p).batch(key, size)

  count = config.couplets
  tested = draw(1.0, keys[0], count)
  if language.p < 1.0:
    # As many for every p: few FREE couplets would make noise that seeds share.
    free = draw(0.0, keys[1], count // 2)
    tested = jax.tree.map(lambda *x: jnp.concatenate(x), tested, free)
  return HeldOutCouplets(
    tested=tested,
    reference=draw(1.0, keys[2], count),
    rhyming=draw(1.0, keys[3], 4 * count),
  )


def setup(config: CoupletsConfig) -> str:
  """Model and training in a line, for figures and reports."""
  return (
    f"couplets; {task_setup.shape_line(config)}, learned positions;"
    f" {task_setup.training_line(config.train, 'couplets')}"
  )
