"""How much of a language model's skill needs gradient from later positions?

    python -m experiments.language [--corpus=PATH [--valid=PATH]...]
        [--tokenizer=bytes|PATH] [--model_size=NAME | --from=DIR]
        [--attention=FORM]... [--preset=smoke|cpu|paper] [--out=DIR]

Arms: causal, myopic/residual, myopic/kv, self_only and zero_context on text,
beside unigram and bigram counts; `--attention=teacher/residual` adds the local
myopic model, which reads the causal one's context. Prints and writes the
held-out loss of every seed in nats a token and bits a byte, on every text of
`--valid`, the myopia gap, and verdicts. Without `--corpus` the text is
generated from a small grammar.

`--both_precisions` trains and evaluates every arm in float32 and in bfloat16
and says whether their gaps agree: rounding may move more than a gap is wide.

`--model_size` is a shape by name, from 0.2M to pythia-2.8b. `--from` fine-tunes
a pretrained Hugging Face folder (GPT-2, Pythia) with its own tokenizer: all
seeds start from the same weights, at 0.4 times the learning rate of their
pretraining, as in the published study, where `--learning_rate` does not say
otherwise.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from absl import flags

from experiments.common import (
  app,
  compare_variants,
  model_sizes,
  text_corpus,
  text_setup,
  train_arms,
  training_flags,
)
from jaxlook import stats
from jaxlook.stats import myopia_gap
from jaxlook.stats.claims import ABOVE_0, PAIRED, Statement, changes, judged
from jaxlook.tasks.text import Text
from jaxlook.training import Problem

flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(text_setup)
flags.adopt_module_key_flags(model_sizes)

_BOTH = flags.DEFINE_bool(
  "both_precisions",
  False,
  "Train the arms in float32 and in bfloat16, and compare their gaps.",
)

_ZERO_CONTEXT = "zero_context"
_BIGRAM_MARGIN = 0.1
_PRECISIONS = {"float32": False, "bfloat16": True}
_PRECISION_SHARE = 0.1


def claims(
  bigram: float,
  values: dict[str, dict[int, float]],
  local_variants: Sequence[str],
  setting: str = "",
) -> list[stats.Claim]:
  """The ladder, zero_context against bigram counts, and the local bonus.

  Args:
    bigram: the loss of bigram counts.
    values: held-out loss by variant and seed.
    local_variants: names of the variants that read the causal model.
    setting: which problem's values these are; empty for the only one.
  """
  head = f"{setting}/" if setting else ""
  found = myopia_gap.ladder_claims(
    values, text_setup.UNIT, text_setup.SOURCE, setting
  )
  losses = list(values.get(_ZERO_CONTEXT, {}).values())
  if len(losses) >= 2:
    found.append(
      stats.claim(
        f"{head}bigram",
        f"{_ZERO_CONTEXT} is within {_BIGRAM_MARGIN} nats a token of bigram"
        " counts; the estimate is its loss minus theirs",
        "jaxlook's own",
        text_setup.UNIT,
        stats.mean_interval(np.asarray(losses) - bigram),
        low=-_BIGRAM_MARGIN,
        high=_BIGRAM_MARGIN,
      )
    )
  return found + judged(
    Statement(
      f"{head}{local}/bonus",
      "the local myopia bonus is positive; the estimate is causal minus"
      f" {local}",
      myopia_gap.source_of(local.partition("/")[2], text_setup.SOURCE),
      text_setup.UNIT,
      changes(values[myopia_gap.CAUSAL], values[local]),
      ABOVE_0,
      PAIRED,
    )
    for local in values
    if local in local_variants
  )


def agreement(
  values: dict[str, dict[str, dict[int, float]]],
) -> list[stats.Claim]:
  """Whether gaps are the same in both precisions, seed by seed.

  Args:
    values: held-out loss by precision, variant and seed; empty for one.
  """
  if set(values) != set(_PRECISIONS):
    return []

  def moved(variant: str) -> np.ndarray:
    arms = [
      values[precision][each]
      for precision in _PRECISIONS
      for each in (variant, myopia_gap.CAUSAL)
    ]
    seeds = sorted(set.intersection(*(set(arm) for arm in arms)))
    of = np.array([[arm[seed] for seed in seeds] for arm in arms])
    wide, narrow = of[0] - of[1], of[2] - of[3]
    # Each seed's own gap, so that the interval knows how sure that is.
    with np.errstate(divide="ignore", invalid="ignore"):
      return narrow / wide - 1.0

  return judged(
    Statement(
      f"precision/{variant}",
      f"{variant} minus {myopia_gap.CAUSAL} is the same in both precisions"
      f" within {_PRECISION_SHARE:.0%}; the estimate is bfloat16's over"
      " float32's, minus 1",
      "jaxlook's own",
      "share of a seed's gap",
      moved(variant),
      {"low": -_PRECISION_SHARE, "high": _PRECISION_SHARE},
      PAIRED,
    )
    for variant in values["float32"]
    if variant != myopia_gap.CAUSAL
  )


def problems(on_text: Problem) -> list[Problem]:
  """The problem, or one for each precision."""
  if not _BOTH.value:
    return [on_text]
  return [
    dataclasses.replace(
      on_text,
      setting=name,
      train=dataclasses.replace(on_text.train, bfloat16=bfloat16),
    )
    for name, bfloat16 in _PRECISIONS.items()
  ]


def about_size(chosen: model_sizes.Size | None) -> str:
  """How the setup begins where a size was named."""
  if chosen is None:
    return ""
  return f"{'fine-tuned from ' if chosen.start else ''}{chosen.name}; "


def problem(
  config: text_setup.TextConfig, text: Text, chosen: model_sizes.Size | None
) -> Problem:
  """The text with its model, of the named size or of the config's."""
  if chosen is None:
    return text_setup.problem(config, text)
  return dataclasses.replace(
    model_sizes.problem(config, chosen, text), setting=""
  )


def main() -> None:
  """Checks the flags and the text, then trains and reports."""
  config = text_setup.build_config()
  if _BOTH.value and training_flags.BFLOAT16.value is not None:
    raise app.UsageError("both_precisions", "does not go with --bfloat16")
  if _BOTH.value and len(flags.FLAGS.valid or ()) > 1:
    raise app.UsageError("valid", "takes one text with --both_precisions")
  shape = text_setup.shape(config, vocab_size=2)
  chosen = model_sizes.chosen_one()
  if chosen is not None:
    config = model_sizes.fitted(config, chosen)
    shape = text_setup.shape(config, vocab_size=2)
  variants = train_arms.chosen_variants(
    (*myopia_gap.LADDER, _ZERO_CONTEXT),
    shape,
    trains_teacher=True,
  )
  text = model_sizes.read_text(config, [chosen] if chosen else [], several=True)
  on_text = problem(config, text, chosen)
  elsewhere = {
    name: problem(config, other, chosen)
    for name, other in text_corpus.more_texts(text).items()
  }
  by_precision = problems(on_text)
  counted = text_setup.baselines(text, on_text)
  for name, other in elsewhere.items():
    for count, metrics in text_setup.baselines(text, other).items():
      counted[count] |= compare_variants.named(metrics, name)
  print(
    f"text: {text_corpus.name()}, {text.train.length} tokens"
    f" ({text.train.tokenizer})"
  )
  compare_variants.run(
    compare_variants.Ablation(
      name="language",
      title="Language: the loss without gradient from later positions",
      config={
        "experiment": "language",
        "text": text_corpus.about(text),
        "elsewhere": {
          name: other.about["valid_sha256"] for name, other in elsewhere.items()
        }
        or None,
        "model_size": chosen.name if chosen else None,
        "start": chosen.start.about if chosen and chosen.start else None,
        **({"precisions": list(_PRECISIONS)} if _BOTH.value else {}),
        **dataclasses.asdict(config),
      },
      problems=by_precision,
      variants=variants,
      unit=text_setup.UNIT,
      setup=f"{about_size(chosen)}{text_setup.setup(config, text)}",
      baselines=lambda _: counted,
      claims=lambda problem, values: claims(
        counted["bigram counts"]["loss"],
        values,
        [each.name for each in variants if each.needs_teacher],
        problem.setting,
      ),
      across=agreement,
      notes=(
        f"A token holds {text.valid_bytes_per_token:.3f} bytes, averaged over"
        " the text that the held-out windows are from.",
        *([model_sizes.SAME_START] if chosen and chosen.start else []),
      ),
      elsewhere=elsewhere,
    )
  )


if __name__ == "__main__":
  app.run(main)
