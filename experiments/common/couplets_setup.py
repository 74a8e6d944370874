"""Couplets as `experiments.planning` has them: flags, scales, held-out ones.

Not a binary.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
from absl import flags

from experiments.common import app, training_flags
from jaxlook.errors import SettingError
from jaxlook.models import DecoderConfig, scaled_init_std
from jaxlook.planning.couplets.measure_all import HeldOutCouplets
from jaxlook.tasks.couplets import Couplets, Route
from jaxlook.tasks.task import Batch
from jaxlook.training import Problem, TrainConfig, held_out_key

_KEY = flags.DEFINE_enum(
  "key", "lookup", ("lookup", "tally"), "How line 1 gives the rhyme."
)
_LANGUAGE = flags.DEFINE_multi_string(
  "language",
  None,
  "A language: open or bottleneck, with /end_only, /late_genre or both behind"
  " it; may be repeated.",
)
_PAIRS = flags.DEFINE_integer("pairs", None, "With --key=tally: K, odd.")


@dataclasses.dataclass(frozen=True)
class CoupletsConfig:
  """A scale of the experiment: languages, model, training, seeds.

  Attributes:
    languages: what is trained on, each by itself.
    layers: of the model.
    width: of its residual stream.
    heads: a layer.
    seeds: how many.
    couplets: held-out RHY couplets that are tested; as `HeldOutCouplets` says,
    some
      things are measured on a part of them, others on four times as many.
    train: how it is trained.
  """

  languages: tuple[Couplets, ...]
  layers: int
  width: int
  heads: int
  seeds: int
  couplets: int
  train: TrainConfig


def _languages(forms: Sequence[str], base: Couplets) -> tuple[Couplets, ...]:
  """The languages of forms as of `--language`, in all else like one."""
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


_FORMS = ("open", "bottleneck", "open/end_only")
_LOOKUP = _languages(_FORMS, Couplets(p=0.75))

LOOKUP = {
  "smoke": CoupletsConfig(
    (Couplets(p=0.5, fillers=1, modifiers=1),),
    *(2, 16, 2, 2, 64),
    training_flags.small_training(20, 8, log_every=10),
  ),
  "cpu": CoupletsConfig(
    _LOOKUP,
    *(2, 64, 4, 3, 1024),
    training_flags.small_training(2500, 128, log_every=100),
  ),
  "paper": CoupletsConfig(
    _LOOKUP,
    *(4, 128, 8, 8, 4096),
    training_flags.small_training(
      10_000, 512, learning_rate=1e-3, log_every=100
    ),
  ),
}
TALLY = {
  "smoke": CoupletsConfig(
    (Couplets(0.5, "tally", "open", pairs=3, modifiers=1),),
    *(2, 16, 2, 2, 64),
    training_flags.small_training(20, 8, log_every=10),
  ),
  "cpu": CoupletsConfig(
    (Couplets(0.9, "tally", "open", pairs=5),),
    *(2, 64, 4, 3, 1024),
    training_flags.small_training(
      2500, 256, learning_rate=5e-3, microbatches=4, log_every=100
    ),
  ),
  "paper": CoupletsConfig(
    tuple(Couplets(0.9, "tally", "open", pairs=k) for k in (5, 9, 15)),
    *(2, 128, 8, 8, 4096),
    training_flags.small_training(
      50_000, 512, learning_rate=1e-3, log_every=100
    ),
  ),
}


def build_config() -> CoupletsConfig:
  """The preset with the flags' values.

  Raises:
    UsageError: a flag's value cannot be used.
  """
  if training_flags.LENGTH.value is not None:
    raise app.UsageError("length", "is given in vain: the language decides it")
  tally = _KEY.value == "tally"
  config = training_flags.resolve(TALLY if tally else LOOKUP)
  languages = config.languages
  if _PAIRS.value is not None:
    if not tally:
      raise app.UsageError("pairs", "is given without --key=tally")
    languages = tuple(
      dataclasses.replace(each, pairs=_PAIRS.value) for each in languages
    )
  if _LANGUAGE.value:
    forms = list(dict.fromkeys(_LANGUAGE.value))
    with app.mapping(route="language"):
      languages = _languages(forms, languages[0])
  asked = flags.FLAGS["p"].value
  if asked is not None:
    shares = list(dict.fromkeys(app.numbers("p", asked, float)))
    if not shares or not min(shares) > 0.0:
      raise app.UsageError("p", "must be above 0: some couplets must rhyme")
    languages = tuple(
      dataclasses.replace(each, p=p) for each in languages for p in shares
    )
  # The same language may be written in several ways.
  languages = tuple(dict.fromkeys(languages))
  return dataclasses.replace(config, languages=languages)


def name(language: Couplets, config: CoupletsConfig) -> str:
  """What tells a language from the others of a run."""
  words = [language.route]
  words += ["end_only"] if language.end_only else []
  words += ["late_genre"] if language.late_genre else []
  dials = []
  for dial, text in (("p", "p={:g}"), ("pairs", "K={}")):
    if len({getattr(each, dial) for each in config.languages}) > 1:
      dials.append(text.format(getattr(language, dial)))
  return " ".join(["/".join(words), *dials])


def problem(language: Couplets, config: CoupletsConfig) -> Problem:
  """A language with its model and training."""
  model = DecoderConfig(
    *(config.layers, config.width, config.heads),
    max_length=language.length,
    vocab_size=language.vocab_size,
    tied_head=False,
    init_std=scaled_init_std(config.width),
  )
  return Problem(
    setting=name(language, config),
    task=language,
    model=model,
    train=config.train,
    seeds=tuple(range(config.seeds)),
    score=lambda loss: {"loss": loss},
    about=dataclasses.asdict(language),
    barrier=language.barrier,
  )


def couples(language: Couplets, config: CoupletsConfig) -> HeldOutCouplets:
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
  train = config.train
  return (
    f"couplets; {config.layers} layers, width {config.width}, {config.heads}"
    f" heads, learned positions; AdamW {train.learning_rate:g}, {train.steps}"
    f" steps of {train.batch_size} couplets"
  )
