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
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from absl import flags

from experiments import ablating, cli, studying
from jaxlook import ablation, figures, report, stats
from jaxlook.lookahead import future_lens as lens
from jaxlook.lookahead.interventions import forward_only
from jaxlook.tasks.text import Text

flags.adopt_module_key_flags(studying)

SETUPS = {
  "smoke": lens.Setup(
    sequences=8,
    fit_positions=4,
    prompt_length=4,
    prompt_steps=4,
    prompt_batch=8,
    map_steps=4,
    map_batch=16,
  ),
  "cpu": lens.Setup(),
  "paper": lens.Setup(
    sequences=8192, prompt_steps=2000, prompt_batch=128, map_steps=2000
  ),
}
PAL = "Pal et al. 2023, arXiv 2311.04897, section 4"
OURS = "jaxlook's own"
UNIT = "accuracy"
TAU = 2
UNTRAINED = "untrained, "
SHOWN = (
  lens.LEARNED,
  lens.LOGITS,
  lens.HIDDEN,
  lens.FIXED,
  lens.SHUFFLED,
  lens.FED,
  lens.FED_NO_STATE,
  UNTRAINED + lens.LOGITS,
)
# Counting more text does not change which token is the commonest.
_COUNTED_TOKENS = 10_000_000

Found = Mapping[str, lens.Measured]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _prepare(decoder, setup, params, key, fit_on, score_on):
  """`prepare` for all seeds, on the same pairs."""
  return jax.vmap(
    lambda one: lens.prepare(key, decoder, one, fit_on, score_on, setup)
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
    raise cli.UsageError(
      "corpus", f"has {len(windows)} held-out windows; 4 are needed"
    )
  middle = len(windows) // 2
  return (
    jnp.asarray(windows[:count]),
    jnp.asarray(windows[middle : middle + count]),
  )


def measure(study, setup, found) -> dict[str, lens.Measured]:
  """Scores of every variant, [E, L + 1, K], and of untrained models."""
  vocab_size = study.problem.model.vocab_size
  text = study.problem.task.train_tokens()[:_COUNTED_TOKENS]
  counted = jnp.asarray(
    np.stack(
      [
        lens.skip_bigram(text, tau, vocab_size)
        for tau in range(1, setup.horizon + 1)
      ]
    )
  )
  sequences = halves(study, setup)
  keys = jax.random.split(jax.random.key(0), 3)

  def measured(subject, prompts: bool) -> list[lens.Measured]:
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
  (fresh,) = measured(studying.untrained(study, found[0]), False)
  named = lens.Measured(
    *(
      {UNTRAINED + name: half[name] for name in (lens.HIDDEN, lens.LOGITS)}
      for half in fresh
    )
  )
  return scores | {first: _joined([scores[first], named])}


def _joined(parts: Sequence[lens.Measured]) -> lens.Measured:
  """The methods of several measurements in one."""
  return lens.Measured(
    {name: x for part in parts for name, x in part.fitted.items()},
    {name: x for part in parts for name, x in part.scored.items()},
  )


def comparisons(found, measured: Found) -> dict[str, stats.Comparison]:
  """Paired differences of accuracy at tau = 2, by what is compared."""
  seeds = {subject.variant: subject for subject in found}
  first = found[0].variant

  def values(variant: str, method: str) -> dict[int, float]:
    chosen = lens.at_chosen(measured[variant], method, TAU)
    return studying.by_seed(seeds[variant], chosen.accuracy)

  pairs = [
    (lens.LEARNED, lens.LOGITS),
    (lens.FED, lens.LOGITS),
    (lens.LOGITS, lens.COUNTED),
    (lens.LEARNED, lens.SHUFFLED),
    (lens.LEARNED, lens.FIXED),
    (lens.LEARNED, lens.NO_STATE),
    (lens.FED, lens.FED_NO_STATE),
    (lens.LOGITS, UNTRAINED + lens.LOGITS),
  ]
  both = {
    f"{a} - {b}": (values(first, a), values(first, b)) for a, b in pairs
  } | {
    f"{first} - {other}, {method}": (
      values(first, method),
      values(other, method),
    )
    for other in seeds
    if other != first
    for method in (lens.LOGITS, lens.LEARNED)
  }
  return {
    name: stats.compare(a, b)
    for name, (a, b) in both.items()
    if len(a.keys() & b.keys()) >= 2
  }


def claims(differences: Mapping[str, stats.Comparison]) -> list[stats.Claim]:
  """The published order at tau = 2, and what jaxlook adds to it."""
  where = (
    f"at tau = {TAU}, at the layers chosen on the sequences fitted on; the"
    " estimate is the difference, paired by seed"
  )
  wanted = [
    ("F1/prompt", f"{lens.LEARNED} - {lens.LOGITS}", PAL),
    ("F1/fed", f"{lens.FED} - {lens.LOGITS}", PAL),
    ("F1/linear", f"{lens.LOGITS} - {lens.COUNTED}", PAL),
    ("source", f"{lens.LEARNED} - {lens.SHUFFLED}", OURS),
    ("state", f"{lens.FED} - {lens.FED_NO_STATE}", OURS),
    ("gap", f"{ablation.CAUSAL} - {ablation.KV}, {lens.LOGITS}", OURS),
  ]
  return [
    stats.claim(
      name,
      f"{difference} is above 0 {where}",
      source,
      UNIT,
      differences[difference],
      low=math.nextafter(0.0, 1.0),
    )
    for name, difference, source in wanted
    if difference in differences
  ]


def score_table(measured: lens.Measured, horizon: int) -> report.Rows:
  """One row a tau and method, with both scores."""
  rows = [
    ["tau", "method", "layer", "accuracy", "95% t", "agreement", "95% t", "n"]
  ]
  for tau in range(1, horizon + 1):
    for method in dict.fromkeys([*lens.METHODS, *measured.scored]):
      found = lens.at_chosen(measured, method, tau)
      cells = []
      for values in (found.accuracy, found.agreement):
        many = len(values) > 1
        ends = stats.mean_interval(values).ci95 if many else None
        cells += [
          report.number(float(values.mean())),
          report.interval(ends) if ends else "-",
        ]
      layer = "-" if found.layer is None else str(found.layer)
      n = str(len(found.accuracy))
      rows.append([str(tau), method, layer, *cells, n])
  return rows


def measurements(found, measured: Found) -> pa.Table:
  """Every score, one a row."""
  rows = [
    {
      "variant": subject.variant,
      "seed": seed,
      "layer": layer,
      "tau": tau + 1,
      "method": method,
      "score": score,
      "sequences": half,
      "value": float(value),
    }
    for subject in found
    for half, methods in measured[subject.variant]._asdict().items()
    for method, scores in methods.items()
    for score, values in scores._asdict().items()
    for (place, layer, tau), value in np.ndenumerate(values)
    for seed in [subject.seeds[place]]
  ]
  return pa.Table.from_pylist(rows)


def draw(folder: Path, study, found, measured: Found, horizon: int) -> None:
  """Accuracy by layer: all methods of the first variant, then all variants."""
  first = measured[found[0].variant].scored

  def panel(title, curves, tau):
    return figures.Curves(
      title,
      np.arange(study.problem.model.layers + 1),
      "layer of the state",
      "accuracy",
      {
        label: scores.accuracy[..., tau - 1].T
        for label, scores in curves.items()
      },
      {
        name: float(first[name].accuracy[..., tau - 1].mean())
        for name in (lens.ON_TEXT, lens.COUNTED)
      },
      scale="steps",
    )

  setup = f"{study.setup}; {len(found[0].seeds)} seeds"
  shown = {method: first[method] for method in SHOWN}
  figures.panels_figure(
    folder / "layers.png",
    [
      [
        panel(f"token n + {tau}, {found[0].variant}", shown, tau)
        for tau in range(1, horizon + 1)
      ]
    ],
    title=study.title,
    setup=setup,
  )
  figures.panels_figure(
    folder / "variants.png",
    [
      [
        panel(
          f"token n + {TAU}, {method}",
          {name: each.scored[method] for name, each in measured.items()},
          TAU,
        )
        for method in (lens.LOGITS, lens.LEARNED)
      ]
    ],
    title=study.title,
    setup=setup,
  )


def main() -> None:
  """Checks the flags, then trains, measures and reports."""
  task = studying.TASK.value
  if task != "text" and not studying.MODEL.value:
    raise cli.UsageError("task", f"{task} has no tokens to decode; give text")
  study = studying.build(
    "future_lens",
    "The future lens: later tokens from one hidden state",
    (ablation.CAUSAL, ablation.RESIDUAL, ablation.KV),
  )
  if not isinstance(study.problem.task, Text):
    raise cli.UsageError("model", "was trained on no text: there are no tokens")
  setup = SETUPS[ablating.PRESET.value]
  length = study.problem.task.length
  if length < setup.least_length:
    raise cli.UsageError(
      "length", f"must be at least {setup.least_length}, not {length}"
    )
  halves(study, setup)
  study = dataclasses.replace(
    study, config={**study.config, "lens": dataclasses.asdict(setup)}
  )
  with studying.opened(study) as store:
    found = studying.subjects(store, study)
    measured = measure(study, setup, found)
    differences = comparisons(found, measured)
    draw(store.figures, study, found, measured, setup.horizon)
    tables = {
      f"Scores, {variant}": score_table(each, setup.horizon)
      for variant, each in measured.items()
    }
    if differences:
      tables[f"Differences of accuracy at tau = {TAU}"] = (
        report.comparison_table(differences)
      )
    studying.write(
      store,
      study,
      studying.Findings(
        claims=claims(differences),
        tables=tables,
        figures={
          "layers.png": "Accuracy by layer of the state; mean and 95% t band"
          " over seeds. Tables have the other controls.",
          "variants.png": "The same for all variants; horizontal lines are"
          f" those of {found[0].variant}.",
        },
        metrics=cells(found, measured),
        measurements=measurements(found, measured),
        notes=(
          "Fitted on the first half of the held-out sequences and scored on the"
          " second; layers are chosen on the first. Accuracy is against the"
          " text's token, agreement against the model's own most likely token"
          " on the text. Pal et al. score against the model's own"
          " continuation.",
          f"Prompts decode token after token. '{lens.FED}' is fed the text's"
          " tokens instead, as in the published code, and so knows those"
          " between n and n + tau, which the linear maps do not: F1/fed says"
          f" little without '{lens.FED_NO_STATE}', the same without a state.",
        ),
      ),
    )


def cells(found, measured: Found):
  """By variant and seed, the accuracy of every method at tau = 2."""
  return {
    subject.variant: {
      seed: {
        f"accuracy of {method} at tau {TAU}": float(
          lens.at_chosen(measured[subject.variant], method, TAU).accuracy[place]
        )
        for method in measured[subject.variant].scored
      }
      for place, seed in enumerate(subject.seeds)
    }
    for subject in found
  }


if __name__ == "__main__":
  # Not at import, for flags are shared by all that a process imports.
  flags.set_default(studying.TASK, "text")
  cli.run(main)
