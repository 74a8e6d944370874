"""The report of `future_lens`: comparisons, claims, tables and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from experiments.common.results_writer import Drawing, Results, seed_cells
from experiments.common.study import Study
from experiments.common.trained_models import Subject, diverged_seeds
from jaxlook import reporting, stats
from jaxlook.lookahead import future_lens as lens
from jaxlook.numerals import counted
from jaxlook.reporting import figures
from jaxlook.stats import myopia_gap
from jaxlook.stats.claims import ABOVE_0

PAL = "Pal et al. 2023, arXiv 2311.04897, section 4"
OURS = "jaxlook's own"
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
ScoresByVariant = Mapping[str, lens.LensResults]
Seeds = Mapping[str, Sequence[int]]
"""The seeds of each variant, in the order of the scores' first axis."""

NOTES = (
  "Methods are fitted on the first half of the held-out sequences and scored on"
  " the second. Layers are chosen on the first half. Accuracy compares with the"
  " text's token, agreement with the model's own most likely token on the text."
  " Pal et al. compare with the model's own continuation.",
  f"Prompts decode one token after another. '{lens.FED}' reads the text's"
  " tokens instead, as in the published code. So it knows the tokens between n"
  " and n + tau, and the linear maps do not. Its lead over"
  f" '{lens.FED_NO_STATE}' shows what the state adds. A method below"
  f" '{lens.COMMONEST}' has learned nothing useful at that tau.",
)


def results(
  study: Study,
  subjects: Sequence[Subject],
  measured: ScoresByVariant,
  horizon: int,
) -> Results:
  """Collects comparisons, tables, figures and claims.

  Args:
    study: what was studied.
    subjects: the trained models.
    measured: scores by variant, the main one first.
    horizon: the largest tau.

  Returns:
    The results to write.
  """
  seeds = {each.variant: each.seeds for each in subjects}
  accuracy, agreement = (
    comparisons(seeds, measured, score) for score in ("accuracy", "agreement")
  )
  first = subjects[0]
  labels = study.labels(counted(len(first.seeds), "seed"))
  return Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    notes=NOTES,
    figures={
      "layers.png": Drawing(
        lambda path: draw_layers(path, measured, **labels),
        "Accuracy by layer of the state; mean and 95% t band over seeds."
        " The tables contain more controls.",
      ),
      "variants.png": Drawing(
        lambda path: draw_variants(path, measured, **labels),
        f"The same for all variants; horizontal lines are of {first.variant}.",
      ),
    },
    tables=tables(measured, horizon, accuracy, agreement),
    claims=claims(accuracy, agreement),
    cells=seed_cells(cells(seeds, measured), diverged_seeds(subjects)),
    measurements=measurements(seeds, measured),
  )


def tables(
  measured: ScoresByVariant,
  horizon: int,
  accuracy: Mapping[str, stats.Comparison],
  agreement: Mapping[str, stats.Comparison],
) -> dict[str, reporting.Rows]:
  """Scores of every variant, and differences at tau = 2.

  Args:
    measured: scores by variant.
    horizon: the largest tau.
    accuracy: differences of accuracy, from `comparisons`.
    agreement: differences of agreement.

  Returns:
    Rows by title.
  """
  differences = {"accuracy": accuracy, "agreement": agreement}
  return {
    f"Scores, {variant}": score_table(each, horizon)
    for variant, each in measured.items()
  } | {
    f"Differences of {score} at tau = {TAU}": (
      reporting.comparison_table(compared)
    )
    for score, compared in differences.items()
    if compared
  }


def comparisons(
  seeds: Seeds, measured: ScoresByVariant, score: str
) -> dict[str, stats.Comparison]:
  """Paired differences of a score at tau = 2.

  Args:
    seeds: the seeds of each variant.
    measured: scores by variant.
    score: "accuracy" or "agreement".

  Returns:
    Comparisons by name, such as "a - b"; only those with at least two common
    seeds.
  """
  first = next(iter(seeds))

  def values(variant: str, method: str) -> dict[int, float]:
    chosen = lens.at_best_layer(measured[variant], method, TAU)
    return dict(
      zip(seeds[variant], map(float, getattr(chosen, score)), strict=True)
    )

  pairs = [
    (lens.LEARNED, lens.LOGITS),
    (lens.LEARNED, lens.COUNTED),
    (lens.LOGITS, lens.COUNTED),
    (lens.COUNTED, lens.FIXED),
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


def claims(
  accuracy: Mapping[str, stats.Comparison],
  agreement: Mapping[str, stats.Comparison],
) -> list[stats.Claim]:
  """The published order of methods at tau = 2, and jaxlook's own claims.

  Args:
    accuracy: differences of accuracy, from `comparisons`.
    agreement: differences of agreement, which is closer to the published score.

  Returns:
    Claims on the differences that exist.
  """
  where = (
    f"at tau = {TAU}, at the layers chosen on the fitting sequences; the"
    " estimate is the difference, paired by seed"
  )
  wanted = [
    ("F1/prompt", f"{lens.LEARNED} - {lens.LOGITS}", "agreement"),
    ("F1/counts", f"{lens.LEARNED} - {lens.COUNTED}", "agreement"),
    ("F1/linear", f"{lens.LOGITS} - {lens.COUNTED}", "agreement"),
    ("F1/fixed", f"{lens.COUNTED} - {lens.FIXED}", "agreement"),
    ("source", f"{lens.LEARNED} - {lens.SHUFFLED}", "accuracy"),
    ("state", f"{lens.FED} - {lens.FED_NO_STATE}", "accuracy"),
    (
      "gap",
      f"{myopia_gap.CAUSAL} - {myopia_gap.KV}, {lens.LOGITS}",
      "accuracy",
    ),
  ]
  found = {"accuracy": accuracy, "agreement": agreement}
  return [
    stats.claim(
      name,
      f"{difference} is above 0 in {score} {where}",
      PAL if name.startswith("F1/") else OURS,
      score,
      found[score][difference],
      **ABOVE_0,
    )
    for name, difference, score in wanted
    if difference in found[score]
  ]


def score_table(measured: lens.LensResults, horizon: int) -> reporting.Rows:
  """One row per tau and method, with both scores."""
  rows = [
    ["tau", "method", "layer", "accuracy", "95% t", "agreement", "95% t", "n"]
  ]
  for tau in range(1, horizon + 1):
    for method in dict.fromkeys([*lens.METHODS, *measured.scored]):
      found = lens.at_best_layer(measured, method, tau)
      cells = []
      for values in (found.accuracy, found.agreement):
        many = len(values) > 1
        ends = stats.mean_interval(values).ci95 if many else None
        cells += [
          reporting.number(float(values.mean())),
          reporting.interval(ends) if ends else "-",
        ]
      layer = "-" if found.layer is None else str(found.layer)
      n = str(len(found.accuracy))
      rows.append([str(tau), method, layer, *cells, n])
  return rows


def measurements(seeds: Seeds, measured: ScoresByVariant) -> pa.Table:
  """Every score, one per row."""
  rows = [
    {
      "variant": variant,
      "seed": seed,
      "layer": layer,
      "tau": tau + 1,
      "method": method,
      "score": score,
      "sequences": half,
      "value": float(value),
    }
    for variant in seeds
    for half, methods in measured[variant]._asdict().items()
    for method, scores in methods.items()
    for score, values in scores._asdict().items()
    for (place, layer, tau), value in np.ndenumerate(values)
    for seed in [seeds[variant][place]]
  ]
  return pa.Table.from_pylist(rows)


def draw_layers(
  path: Path, measured: ScoresByVariant, *, title: str, setup: str
) -> None:
  """Draws accuracy by layer: all methods of the first variant.

  Args:
    path: the PNG to write.
    measured: scores by variant.
    title: of the figure.
    setup: the setup in a line or two.

  Raises:
    OSError: the file cannot be written.
  """
  variant = next(iter(measured))
  first = measured[variant].scored
  horizon = first[lens.LOGITS].accuracy.shape[-1]
  shown = {method: first[method] for method in SHOWN}
  panels = [
    _panel(f"token n + {tau}, {variant}", shown, first, tau)
    for tau in range(1, horizon + 1)
  ]
  figures.panels_figure(path, [panels], title=title, setup=setup)


def draw_variants(
  path: Path, measured: ScoresByVariant, *, title: str, setup: str
) -> None:
  """Draws accuracy by layer for all variants; see `draw_layers`."""
  first = next(iter(measured.values())).scored
  panels = [
    _panel(
      f"token n + {TAU}, {method}",
      {name: each.scored[method] for name, each in measured.items()},
      first,
      TAU,
    )
    for method in (lens.LOGITS, lens.LEARNED)
  ]
  figures.panels_figure(path, [panels], title=title, setup=setup)


def _panel(
  title: str,
  curves: Mapping[str, lens.MethodScores],
  first: Mapping[str, lens.MethodScores],
  tau: int,
) -> figures.Curves:
  """Accuracy by layer at one tau.

  Args:
    title: of the panel.
    curves: scores by label.
    first: scores of the first variant by method; two of them become horizontal
      lines.
    tau: how far ahead.

  Returns:
    The panel.
  """
  layers = first[lens.LOGITS].accuracy.shape[1]
  return figures.Curves(
    title=title,
    x=np.arange(layers),
    xlabel="layer of the state",
    ylabel="accuracy",
    curves={
      label: np.asarray(scores.accuracy)[..., tau - 1].T
      for label, scores in curves.items()
    },
    levels={
      name: float(first[name].accuracy[..., tau - 1].mean())
      for name in (lens.ON_TEXT, lens.COUNTED)
    },
    scale="steps",
  )


def cells(
  seeds: Seeds, measured: ScoresByVariant
) -> dict[str, dict[int, dict[str, float]]]:
  """The accuracy of every method at tau = 2, by variant and seed."""
  return {
    variant: {
      seed: {
        f"accuracy of {method} at tau {TAU}": float(
          lens.at_best_layer(measured[variant], method, TAU).accuracy[place]
        )
        for method in measured[variant].scored
      }
      for place, seed in enumerate(seeds[variant])
    }
    for variant in seeds
  }
