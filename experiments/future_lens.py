"""Which later tokens can be decoded from one hidden state?

    python -m experiments.future_lens [--model=RUN|DIR] [--corpus=PATH]
        [--preset=smoke|cpu|paper] [--out=DIR]

Decodes the token tau = 1, 2, 3 positions on from the residual stream at one
position and layer, by two linear maps and by a learned soft prompt, for causal,
myopic/residual and myopic/kv models, beside the controls that Pal et al. (2023)
lack. Writes accuracy against the text's token and agreement with the model's
own prediction there, by layer, and verdicts on the published order. Text only:
the pre-caching task has no tokens.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import (
  app,
  presets,
  results_writer,
  shared_flags,
  study_setup,
  trained_models,
)
from experiments.reports import future_lens
from jaxlook import reporting
from jaxlook.interventions.forward import forward_only
from jaxlook.lookahead import future_lens as lens
from jaxlook.lookahead import future_pairs
from jaxlook.stats import myopia_gap
from jaxlook.tasks.text import Text

shared_flags.adopt(__name__, *shared_flags.STUDY_TEXT)

ARMS = (myopia_gap.CAUSAL, myopia_gap.RESIDUAL, myopia_gap.KV)

SETUPS = {
  "smoke": future_pairs.LensSetup(
    sequences=8,
    fit_positions=4,
    prompt_length=4,
    prompt_steps=4,
    prompt_batch=8,
    map_steps=4,
    map_batch=16,
  ),
  "cpu": future_pairs.LensSetup(),
  "paper": future_pairs.LensSetup(
    sequences=8192, prompt_steps=2000, prompt_batch=128, map_steps=2000
  ),
}
# Counting more text does not change which token is the commonest.
_COUNTED_TOKENS = 10_000_000


@functools.partial(jax.jit, static_argnums=(0, 1))
def _prepare(decoder, setup, params, key, fit_on, score_on):
  """`prepare` for all seeds, on the same pairs."""
  return jax.vmap(
    lambda one: future_pairs.prepare_pairs(
      key, decoder, one, fit_on, score_on, setup
    )
  )(params)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _linear(decoder, setup, params, data, key, counted):
  """`measure_linear` for all seeds."""
  return jax.vmap(
    lambda one, pairs: lens.measure_linear(
      key, decoder, one, pairs, counted, setup
    )
  )(params, data)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _prompts(decoder, setup, params, data, key, tokens):
  """`measure_prompts` for all seeds."""
  return jax.vmap(
    lambda one, pairs: lens.measure_prompts(
      key, decoder, one, pairs, tokens, setup
    )
  )(params, data)


def halves(study, setup) -> tuple[jax.Array, jax.Array]:
  """Held-out sequences to fit on, and later ones to score on."""
  windows = np.concatenate(study.problem.held_out)
  count = min(setup.sequences, len(windows) // 2)
  if count < 2:
    raise app.UsageError(
      "corpus", f"must hold at least 4 held-out windows, not {len(windows)}"
    )
  middle = len(windows) // 2
  return (
    jnp.asarray(windows[:count]),
    jnp.asarray(windows[middle : middle + count]),
  )


def measure(study, setup, found) -> dict[str, lens.LensResults]:
  """Scores of every variant, [E, L + 1, K], and of untrained models."""
  vocab_size = study.problem.model.vocab_size
  text = study.problem.task.train_tokens()[:_COUNTED_TOKENS]
  counted = jnp.asarray(
    np.stack(
      [
        future_pairs.skip_bigram(text, tau, vocab_size)
        for tau in range(1, setup.horizon + 1)
      ]
    )
  )
  sequences = halves(study, setup)
  keys = jax.random.split(jax.random.key(0), 3)

  def measured(subject, prompts: bool) -> list[lens.LensResults]:
    # Cut gradients leave the forward pass alone: one program for all variants.
    model = (forward_only(subject.decoder), setup, subject.params)
    model = (*model, _prepare(*model, keys[0], *sequences))
    parts = [_linear(*model, keys[1], counted)]
    if prompts:
      tokens = sequences[0][0, : setup.prompt_length]
      parts.append(_prompts(*model, keys[2], tokens))
    return jax.tree.map(np.asarray, parts)

  scores = {each.variant: _joined(measured(each, True)) for each in found}
  first = found[0].variant
  (fresh,) = measured(found[0].untrained(), False)
  named = lens.LensResults(
    *(
      {
        future_lens.UNTRAINED + name: half[name]
        for name in (lens.HIDDEN, lens.LOGITS)
      }
      for half in fresh
    )
  )
  return scores | {first: _joined([scores[first], named])}


def _joined(parts: Sequence[lens.LensResults]) -> lens.LensResults:
  """The methods of several measurements in one."""
  return lens.LensResults(
    {name: x for part in parts for name, x in part.fitted.items()},
    {name: x for part in parts for name, x in part.scored.items()},
  )


def main() -> None:
  """Checks the flags, then trains, measures and reports."""
  study = study_setup.build(
    "future_lens",
    "The future lens: later tokens from one hidden state",
    ARMS,
    precache=None,
  )
  setup = presets.chosen(SETUPS)
  length = cast(Text, study.problem.task).length
  if length < setup.least_length:
    raise app.UsageError(
      "length", f"must be at least {setup.least_length}, not {length}"
    )
  halves(study, setup)
  study = dataclasses.replace(
    study, config={**study.config, "lens": dataclasses.asdict(setup)}
  )
  with study.open_run() as store:
    found = study.subjects(store)
    measured = measure(study, setup, found)
    seeds = {each.variant: each.seeds for each in found}
    differences = {
      score: future_lens.comparisons(seeds, measured, score)
      for score in ("accuracy", "agreement")
    }
    future_lens.draw(
      store.figures,
      measured,
      title=study.title,
      setup=f"{study.setup}; {len(found[0].seeds)} seeds",
    )
    tables = {
      f"Scores, {variant}": future_lens.score_table(each, setup.horizon)
      for variant, each in measured.items()
    }
    tables |= {
      f"Differences of {score} at tau = {future_lens.TAU}": (
        reporting.comparison_table(compared)
      )
      for score, compared in differences.items()
      if compared
    }
    results_writer.write(
      store,
      results_writer.Results(
        name=study.name,
        title=study.title,
        setup=study.setup,
        claims=future_lens.claims(**differences),
        tables=tables,
        figures={
          "layers.png": "Accuracy by layer of the state; mean and 95% t band"
          " over seeds. Tables have the other controls.",
          "variants.png": "The same for all variants; horizontal lines are"
          f" those of {found[0].variant}.",
        },
        cells=results_writer.seed_cells(
          future_lens.cells(seeds, measured),
          trained_models.diverged_seeds(found),
        ),
        measurements=future_lens.measurements(seeds, measured),
        notes=(
          "Fitted on the first half of the held-out sequences and scored on the"
          " second; layers are chosen on the first. Accuracy is against the"
          " text's token, agreement against the model's own most likely token"
          " on the text. Pal et al. score against the model's own"
          " continuation.",
          f"Prompts decode token after token. '{lens.FED}' is fed the text's"
          " tokens instead, as in the published code, and so knows those"
          " between n and n + tau, which the linear maps do not; what the state"
          f" adds is its lead over '{lens.FED_NO_STATE}'. A method below"
          f" '{lens.COMMONEST}' has learned nothing of use at that tau.",
        ),
      ),
    )


if __name__ == "__main__":
  app.run(
    main,
    lambda: study_setup.values(precache=None, attention=ARMS),
    says=study_setup.SAYS,
  )
