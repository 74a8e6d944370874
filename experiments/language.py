"""How much of a language model's skill needs gradient from later positions?

    python -m experiments.language [--corpus=PATH [--valid=PATH]...]
        [--tokenizer=bytes|PATH] [--model_size=NAME | --from=DIR]
        [--attention=FORM]... [--preset=smoke|cpu|paper] [--out=DIR]

Arms: causal, myopic/residual, myopic/kv, self_only and zero_context on text,
beside counts of unigrams to 5-grams. `--attention=teacher/residual` adds the
local myopic model, which reads the context of the causal one. Without
`--corpus` the text is generated from a small grammar.

Writes the held-out loss of every seed in nats a token and bits a byte, on every
text of `--valid`, the myopia gap, and verdicts. The report says which counts
causal attention beats; if not those of bigrams, its models are under-trained.

`--both_precisions` trains and evaluates every arm in float32 and in bfloat16
and compares their gaps: rounding may move a loss by more than the gap.

`--model_size` names a shape, from 0.9k to pythia-2.8b. `--from` fine-tunes a
pretrained Hugging Face folder (GPT-2, Pythia) with its own tokenizer. All seeds
then start from the same weights, at 0.4 times the learning rate of their
pretraining, as in the published study; `--learning_rate` overrides that.
"""

from absl import flags

from experiments.common import (
  app,
  compare_variants,
  model_sizes,
  presets,
  run_folder,
  shared_flags,
  text_corpus,
  text_setup,
  train_arms,
)
from experiments.reports import language as report
from experiments.reports import ngram_notes
from experiments.setups import language_setup
from jaxlook.numerals import counted
from jaxlook.stats import myopia_gap

shared_flags.adopt(
  __name__, *shared_flags.TRAIN, *shared_flags.TEXT, "model_size", "from"
)

ARMS = (*myopia_gap.LADDER, report.ZERO_CONTEXT)
_BOTH = flags.DEFINE_bool(
  "both_precisions",
  False,
  "Train the arms in float32 and in bfloat16, and compare their gaps.",
)


def check_flags() -> None:
  """Refuses flags that do not go with `--both_precisions`."""
  if _BOTH.value and shared_flags.BFLOAT16.value is not None:
    raise app.UsageError(
      "both_precisions", "cannot be combined with --bfloat16"
    )
  if _BOTH.value and len(flags.FLAGS.valid or ()) > 1:
    raise app.UsageError("valid", "must be one text with --both_precisions")


def main() -> None:
  """Checks the flags and the text, then trains and reports."""
  check_flags()
  held = run_folder.held("language")
  config, size = language_setup.build_config(held)
  variants = train_arms.chosen_variants(
    ARMS,
    text_setup.shape(config, vocab_size=2),
    held=held,
    trains_teacher=True,
  )
  text = model_sizes.read_text(config, [size] if size else [], several=True)
  problem = language_setup.problem(config, text, size)
  elsewhere = {
    name: language_setup.problem(config, other, size)
    for name, other in text_corpus.more_texts(text).items()
  }
  counts = language_setup.baselines(text, problem, elsewhere)
  by_count = {name: metrics["loss"] for name, metrics in counts.items()}
  taught = [variant.name for variant in variants if variant.needs_teacher]
  print(
    f"text: {text_corpus.name()}, {counted(text.train.length, 'token')}"
    f" ({text.train.tokenizer})"
  )
  compare_variants.run(
    compare_variants.Ablation(
      name="language",
      title="Language: the loss without gradient from later positions",
      config=language_setup.run_config(
        config, text, size, elsewhere, both_precisions=_BOTH.value
      ),
      problems=(
        language_setup.in_both_precisions(problem) if _BOTH.value else [problem]
      ),
      variants=variants,
      unit=text_setup.UNIT,
      setup=language_setup.setup(config, text, size),
      baselines=lambda _: counts,
      claims=lambda problem, values: report.claims(
        by_count[text_setup.BIGRAM], values, taught, problem.setting
      ),
      predicted=(report.ZERO_CONTEXT, *taught),
      across=report.precision_claims,
      remarks=lambda values: ngram_notes.notes(values, by_count),
      notes=report.notes(text, same_start=bool(size and size.start)),
      elsewhere=elsewhere,
    )
  )


if __name__ == "__main__":
  app.run(
    main,
    lambda: presets.values(text_setup.PRESETS, attention=ARMS),
    says={
      "valid": "Held-out text; repeat to evaluate on several. [the end of the"
      " corpus]"
    },
  )
