"""Do models plan a rhyme at the line break, and who asks them to?

    python -m experiments.planning [--preset=smoke|cpu|paper] [--out=DIR]
        [--key=lookup|tally] [--language=ROUTE[/end_only][/late_genre]]
        [--p=0.75] [--pairs=K] [--attention=... (repeatable)]

Trains causal and both myopic cuts on couplets (`jaxlook.tasks.couplets`), a
language in which it is known what must be planned, where, and what it is worth
in nats. Reports per language and variant the loss by class of positions beside
the exact loss of a planner, an improviser and a blind reader; whether lines
that the model writes rhyme and hold together; the beam gain; a linear probe for
the rhyme at every place of few positions; and the causal tests: what m1, the
article, e2 and the written line become when the state at one place is replaced
by another couplet's, or steered from one rhyme family to another, and what is
lost when line 2 may no longer look at a place.

`--key=lookup` (default; half an hour on two cores) trains three languages:
the class of e1 is the key, with an open route, with a bottleneck at the line
break, and end-only, where improvising is all there is to learn, so that it is
trained without cuts. `--language=bottleneck/late_genre --p=0.25,0.75` has the
genre come after the line break. `--key=tally` has the key spread over K pairs
of line 1 and takes as long. As every run it can be interrupted and
goes on with the same command.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from absl import flags

from experiments import ablating, cli, studying
from jaxlook import ablation
from jaxlook.models import DecoderConfig, scaled_init_std
from jaxlook.planning.couplets import claims as couplets_claims
from jaxlook.planning.couplets import report as couplets_report
from jaxlook.planning.couplets.examination import (
  Couples,
  Numbers,
  examine,
  numbers,
  probe,
  probe_numbers,
)
from jaxlook.runs import Store
from jaxlook.tasks.couplets import Couplets, Route
from jaxlook.tasks.task import Batch
from jaxlook.training import (
  FinishedArm,
  Problem,
  TrainConfig,
  held_out_key,
)

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

flags.adopt_module_key_flags(ablating)
flags.declare_key_flag("p")

NOTES = (
  "moved / left: how far what the model expects has come from a planner of the"
  " couplet's own class to one of the donor's, in total variation; full"
  " transfer is 1 / 0, none 0 / 1. `none` is no swap, so what it reads is the"
  " models' own distance from planners; `prompt` at layer 0 is the donor's own"
  " prompt. A model that does not plan is far from both planners without any"
  " swap; the figure shows the shift from what the unchanged model expects."
  " Written lines are greedy.",
  "A probe tells that the class is there, a swap that it is used from there.",
  "Verdicts are of each claim by itself, without adjustment for their number.",
)


@dataclasses.dataclass(frozen=True)
class Config:
  """A scale of the experiment: languages, model, training, seeds.

  Attributes:
    languages: what is trained on, each by itself.
    layers: of the model.
    width: of its residual stream.
    heads: a layer.
    seeds: how many.
    couplets: held-out couplets that everything but the loss is measured on.
    train: how it is trained.
  """

  languages: tuple[Couplets, ...]
  layers: int
  width: int
  heads: int
  seeds: int
  couplets: int
  train: TrainConfig


def _train(
  steps: int, batch: int = 128, rate: float = 3e-3, parts: int = 1
) -> TrainConfig:
  return TrainConfig(
    steps=steps,
    batch_size=batch,
    microbatches=parts,
    learning_rate=rate,
    warmup_fraction=0.05,
    clip_norm=1.0,
    log_every=min(100, steps // 2),
  )


def _languages(forms: Sequence[str], base: Couplets) -> tuple[Couplets, ...]:
  """The languages of forms as of `--language`, in all else like one."""
  found = []
  for form in forms:
    route, *variants = form.split("/")
    for word in variants:
      if word not in ("end_only", "late_genre"):
        raise ValueError(
          f"knows no {word!r}; behind a route may stand end_only, late_genre"
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
  "smoke": Config(
    (Couplets(p=0.5, fillers=1, modifiers=1),),
    *(2, 16, 2, 2, 64),
    _train(20, 8),
  ),
  "cpu": Config(_LOOKUP, *(2, 64, 4, 3, 1024), _train(2500)),
  "paper": Config(_LOOKUP, *(4, 128, 8, 8, 4096), _train(10_000, 512, 1e-3)),
}
TALLY = {
  "smoke": Config(
    (Couplets(0.5, "tally", "open", pairs=3, modifiers=1),),
    *(2, 16, 2, 2, 64),
    _train(20, 8),
  ),
  "cpu": Config(
    (Couplets(0.9, "tally", "open", pairs=5),),
    *(2, 64, 4, 3, 1024),
    _train(2500, 256, 5e-3, parts=4),
  ),
  "paper": Config(
    tuple(Couplets(0.9, "tally", "open", pairs=k) for k in (5, 9, 15)),
    *(2, 128, 8, 8, 4096),
    _train(50_000, 512, 1e-3),
  ),
}


def build_config() -> Config:
  """The preset with the flags' values.

  Raises:
    UsageError: a flag's value cannot be used.
  """
  if ablating.LENGTH.value is not None:
    raise cli.UsageError("length", "is given in vain: the language decides it")
  tally = _KEY.value == "tally"
  config = ablating.resolve(TALLY if tally else LOOKUP)
  languages = config.languages
  if _PAIRS.value is not None:
    if not tally:
      raise cli.UsageError("pairs", "is given without --key=tally")
    with cli.naming("pairs"):
      languages = tuple(
        dataclasses.replace(each, pairs=_PAIRS.value) for each in languages
      )
  if _LANGUAGE.value:
    forms = list(dict.fromkeys(_LANGUAGE.value))
    with cli.naming("language"):
      languages = _languages(forms, languages[0])
  asked = flags.FLAGS["p"].value
  if asked is not None:
    with cli.naming("p"):
      shares = [float(text) for text in dict.fromkeys(asked)]
      if not shares or not min(shares) > 0.0:
        raise ValueError("must be above 0: some couplets must rhyme")
      languages = tuple(
        dataclasses.replace(each, p=p) for each in languages for p in shares
      )
  # The same language may be written in several ways.
  languages = tuple(dict.fromkeys(languages))
  return dataclasses.replace(config, languages=languages)


def name(language: Couplets, config: Config) -> str:
  """What tells a language from the others of a run."""
  words = [language.route]
  words += ["end_only"] if language.end_only else []
  words += ["late_genre"] if language.late_genre else []
  dials = []
  for dial, text in (("p", "p={:g}"), ("pairs", "K={}")):
    if len({getattr(each, dial) for each in config.languages}) > 1:
      dials.append(text.format(getattr(language, dial)))
  return " ".join(["/".join(words), *dials])


def problem(language: Couplets, config: Config) -> Problem:
  """A language with its model and training."""
  with cli.naming("width", "heads", "layers"):
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


def couples(language: Couplets, config: Config) -> Couples:
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
  return Couples(
    tested=tested,
    reference=draw(1.0, keys[2], count),
    rhyming=draw(1.0, keys[3], 4 * count),
  )


def study_language(
  problem: Problem, arms: Sequence[FinishedArm], held_out: Couples
) -> tuple[dict[str, Numbers], Numbers]:
  """Examines the arms of one language, and their seeds before training."""
  task = cast(Couplets, problem.task)
  found = {}
  for arm in arms:
    saved = studying.read(arm)
    found[arm.variant] = numbers(
      task,
      examine(
        *(saved.decoder, task, saved.params(), held_out),
        alive=[cell["status"] == "done" for cell in arm.cells],
        key=jax.random.key(0),
      ),
    )
  first = studying.read(arms[0])
  fresh = probe(first.decoder, task, first.params(0), held_out)
  return found, probe_numbers(task, fresh)


def setup(config: Config) -> str:
  """Model and training in a line, for figures and reports."""
  train = config.train
  return (
    f"couplets; {config.layers} layers, width {config.width}, {config.heads}"
    f" heads, learned positions; AdamW {train.learning_rate:g}, {train.steps}"
    f" steps of {train.batch_size} couplets"
  )


def main() -> None:
  """Checks the flags, trains what is missing, examines and reports."""
  config = build_config()
  if config.layers < 2:
    raise cli.UsageError(
      "layers", "must be at least 2: one to store, one to use"
    )
  problems = [problem(language, config) for language in config.languages]
  variants = ablating.cuts(
    [ablation.RESIDUAL, ablation.KV], config.layers, config.heads
  )
  study = studying.Study(
    name="planning",
    title="Planning a rhyme at the line break",
    problem=problems[0],
    variants=variants,
    config={"experiment": "planning", **dataclasses.asdict(config)},
    setup=setup(config),
    unit="nats/token",
    source="",
  )
  with studying.opened(study) as store:
    arms = ablating.train(store, todo(problems, variants))
    studying.write(store, study, findings(store, config, problems, arms))


def todo(
  problems: Sequence[Problem], variants: Sequence[str]
) -> list[tuple[Problem, str]]:
  """The arms: in end-only languages, unless asked for, no cut."""
  return [
    (problem, variant)
    for problem, variant in itertools.product(problems, variants)
    if variant == ablation.CAUSAL
    or ablating.ATTENTION.value
    or not cast(Couplets, problem.task).end_only
  ]


def findings(
  store: Store,
  config: Config,
  problems: Sequence[Problem],
  arms: Sequence[FinishedArm],
) -> studying.Findings:
  """Claims, tables and a figure of every language."""
  claims, tables, figures, cells, every = [], {}, {}, [], {}
  for problem in problems:
    name, task = problem.setting, cast(Couplets, problem.task)
    mine = [arm for arm in arms if arm.setting == name]
    found, fresh = study_language(problem, mine, couples(task, config))
    every[name] = found
    claims += couplets_claims.claims(name, task, found, fresh)
    tables |= {
      f"{name}: {title}": rows
      for title, rows in couplets_report.tables(
        task, found, fresh, config.layers
      ).items()
    }
    file = f"{'-'.join(name.replace('/', ' ').split())}.png"
    couplets_report.figure(
      *(store.figures / file, task, found),
      title=f"Planning: {task.key}, {name}",
      setup=f"{setup(config)}; p = {task.p:g}; {config.seeds} seeds",
    )
    figures[file] = f"{name}: mean and 95% t band over {config.seeds} seeds."
    cells += [
      cell | more(cell, found[arm.variant], place)
      for arm in mine
      for place, cell in enumerate(arm.cells)
    ]
  return studying.Findings(
    claims=claims,
    tables=tables,
    figures=figures,
    cells=cells,
    measurements=couplets_report.measurements(every, range(config.seeds)),
    notes=NOTES,
  )


def more(cell: Mapping[str, Any], found: Numbers, place: int) -> dict[str, Any]:
  """A cell's metrics with losses and what it writes."""
  if cell["status"] != "done":
    return {}
  added = {
    name: float(values[place])
    for name, values in found.items()
    if name.startswith(("loss/RHY", "write"))
  }
  return {"metrics": cell["metrics"] | added}


if __name__ == "__main__":
  cli.run(main)
