"""How much of a language model's skill needs gradient from later positions?

    python -m experiments.language [--corpus=PATH [--valid=PATH]]
        [--tokenizer=bytes|PATH] [--preset=smoke|cpu|paper] [--out=DIR]

Arms: causal, myopic/residual, myopic/kv, self_only and zero_context on text,
beside unigram and bigram counts. Prints and writes the held-out loss of every
seed in nats a token and bits a byte, the myopia gap, and verdicts. Without
`--corpus` the text is generated from a small grammar.
"""

import dataclasses

import numpy as np
from absl import flags

from experiments import ablating, cli, reading
from jaxlook import ablation, stats

flags.adopt_module_key_flags(ablating)
flags.adopt_module_key_flags(reading)

_ZERO_CONTEXT = "zero_context"
_BIGRAM_MARGIN = 0.1


def claims(
  bigram: float, values: dict[str, dict[int, float]]
) -> list[stats.Claim]:
  """The order of the ladder, and zero_context against bigram counts."""
  found = ablation.ladder_claims(values, reading.UNIT, reading.SOURCE)
  losses = list(values.get(_ZERO_CONTEXT, {}).values())
  if len(losses) >= 2:
    found.append(
      stats.claim(
        "bigram",
        f"{_ZERO_CONTEXT} is within {_BIGRAM_MARGIN} nats a token of bigram"
        " counts; the estimate is its loss minus theirs",
        "jaxlook's own",
        reading.UNIT,
        stats.mean_interval(np.asarray(losses) - bigram),
        low=-_BIGRAM_MARGIN,
        high=_BIGRAM_MARGIN,
      )
    )
  return found


def main() -> None:
  """Checks the flags and the text, then trains and reports."""
  config = reading.build_config()
  reading.shape(config, vocab_size=2)
  variants = ablating.arms(
    (*ablation.LADDER, _ZERO_CONTEXT), config.layers, config.heads
  )
  text = reading.read_text(config)
  on_text = reading.problem(config, text)
  counted = reading.baselines(text, on_text)
  print(
    f"text: {reading.name()}, {text.train.length} tokens"
    f" ({text.train.tokenizer})"
  )
  ablating.run(
    ablating.Ablation(
      name="language",
      title="Language: the loss without gradient from later positions",
      config={
        "experiment": "language",
        "text": reading.about(text),
        **dataclasses.asdict(config),
      },
      problems=[on_text],
      variants=variants,
      unit=reading.UNIT,
      setup=reading.setup(config, text),
      baselines=lambda _: counted,
      claims=lambda _, values: claims(counted["bigram counts"]["loss"], values),
      notes=(
        f"A token holds {text.valid_bytes_per_token:.3f} bytes, averaged over"
        " the text that the held-out windows are from.",
      ),
    )
  )


if __name__ == "__main__":
  cli.run(main)
