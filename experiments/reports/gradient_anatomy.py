"""The report of `gradient_anatomy`: notes, tables, cells and measurements."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.common.results_writer import Results, seed_cells
from experiments.common.study import Study
from experiments.common.trained_models import Subject, diverged_seeds
from experiments.reports import gradient_anatomy_figures
from experiments.reports.gradient_anatomy_claims import (
  CUT_WORDS,
  GRADIENT_WORDS,
  KEYS,
  AnatomyByVariant,
  DirectionsByStep,
  claims,
)
from jaxlook import reporting, stats
from jaxlook.lookahead.gradient_anatomy import (
  CUT_METHODS,
  KINDS,
  AnatomyResults,
  distance_shares,
  edge_usefulness,
)
from jaxlook.lookahead.gradient_directions import STOPS
from jaxlook.numerals import counted

NOTES = (
  "Shares are squared norms over their sum over distances. Signed shares are"
  " the parts along the whole gradient. Both sum to one.",
  "The future gradient is vanilla minus myopic, as published. The myopic and"
  " the future_only gradient both contain the paths that pass no key or value,"
  " so vanilla minus both subtracts these paths twice. Mixed paths are the rest"
  " if these paths are subtracted once.",
  "Below the last layer, the rise at a position also contains what other"
  " positions lost by their cut edges of the same distance.",
)


def results(
  study: Study,
  subjects: Sequence[Subject],
  found: AnatomyByVariant,
  directions: DirectionsByStep,
  *,
  early: int | None,
  sequences: int,
  left_out: Sequence[str],
) -> Results:
  """Collects tables, figures, claims and measurements.

  Args:
    study: what was studied.
    subjects: the models; the first are followed along training, the last are
      untrained.
    found: measures by variant.
    directions: by training step, the measures [E] of `measure_directions`.
    early: the step that counts as early; None if training was not followed.
    sequences: number of held-out sequences that were used.
    left_out: variants that change the forward pass.

  Returns:
    The results to write.
  """
  trained, untrained = subjects[0], subjects[-1]
  labels = study.labels(
    f"{counted(sequences, 'held-out sequence')},"
    f" {counted(len(trained.seeds), 'seed')}"
  )
  seeds = {each.variant: each.seeds for each in subjects}
  return Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    notes=(*NOTES, *(_left_out_note(variant) for variant in left_out)),
    figures=gradient_anatomy_figures.drawings(
      found, directions, trained.variant, unit=study.unit, **labels
    ),
    tables=tables(found, directions, study.unit),
    claims=claims(
      found,
      trained.variant,
      untrained.variant,
      directions,
      early,
      study.unit,
    ),
    cells=seed_cells(
      {variant: metrics(one, seeds[variant]) for variant, one in found.items()},
      diverged_seeds(subjects),
    ),
    measurements=measurements(found, seeds),
    arrays=arrays(found, directions),
  )


def _left_out_note(variant: str) -> str:
  return f"{variant} is left out, because it changes the forward pass."


def counted_share(length: int) -> float:
  """The share of query-key pairs with d > 0: (N - 1) / (N + 1)."""
  return (length - 1) / (length + 1)


def tables(
  found: AnatomyByVariant, directions: DirectionsByStep, unit: str
) -> dict[str, reporting.Rows]:
  """Future-directed shares, usefulness of edges, and directions by step.

  Args:
    found: measures by variant.
    directions: by training step, the measures [E] of `measure_directions`.
    unit: of the loss.

  Returns:
    Tables by title.
  """
  future = [
    ["variant", "gradient to", "layer", "of norms", "95%", "signed", "95%", "n"]
  ]
  useful = [
    ["variant", "edges cut", "layer", "own", "95%", "future", "95%", "n"]
  ]
  length = next(iter(found.values())).influence.shape[-1]
  for variant, one in found.items():
    for kind in KINDS:
      both = {
        name: 1.0 - x[..., 0]
        for name, x in distance_shares(one.grams[kind]).items()
      }
      for layer in range(both["norm"].shape[1]):
        parts = [_cells(both[name][:, layer]) for name in ("norm", "signed")]
        future.append(
          [variant, GRADIENT_WORDS[kind], str(layer), *parts[0], *parts[1]]
          + [str(len(one.influence))]
        )
    for how in CUT_METHODS:
      use = edge_usefulness(one.rises[how])
      for layer in range(use.own.shape[1]):
        parts = [
          _cells(x[:, layer, KEYS].mean(axis=1)) for x in (use.own, use.future)
        ]
        useful.append(
          [variant, CUT_WORDS[how], str(layer), *parts[0], *parts[1]]
          + [str(len(one.influence))]
        )
  by_step = [["stop point", "step", *_DIRECTIONS.values(), "n"]]
  for stop in STOPS:
    for step, measures in directions.items():
      row = [
        " ".join(_cells(measures[f"{stop}/{name}"])) for name in _DIRECTIONS
      ]
      count = len(measures[f"{stop}/cos_myopic_future"])
      by_step.append([stop, str(step), *row, str(count)])
  share = reporting.number(counted_share(length))
  return {
    f"Future-directed share of the gradient, all heads ({share} of the"
    " query-key pairs are future-directed)": future,
    f"Rise of the loss when edges are cut, mean over keys, {unit}": useful,
    "Directions of the gradient along training (step 0: before it)": by_step,
  }


_DIRECTIONS = {
  "cos_myopic_future": "cos(myopic, future)",
  "cos_vanilla_myopic": "cos(vanilla, myopic)",
  "ratio_myopic": "|myopic| / |vanilla|",
  "ratio_future": "|future| / |vanilla|",
  "ratio_mixed": "|mixed| / |vanilla|",
  "ratio_two_cuts": "|vanilla - myopic - future_only| / |vanilla|",
}


def _cells(values_E: np.ndarray) -> list[str]:
  """Mean and 95% interval of a measure over the seeds that have it."""
  finite = values_E[np.isfinite(values_E)].astype(np.float64)
  if not len(finite):
    return ["-", "-"]
  if len(finite) == 1:
    return [reporting.number(float(finite[0])), "-"]
  summary = stats.mean_interval(finite)
  return [reporting.number(summary.estimate), reporting.interval(summary.ci95)]


def metrics(found: AnatomyResults, seeds: Sequence[int]) -> dict[int, Any]:
  """The metrics of a variant's cells: future shares and usefulness."""
  by_name: dict[str, np.ndarray] = {}
  for kind in KINDS:
    for name, share in distance_shares(found.grams[kind]).items():
      for layer in range(share.shape[1]):
        by_name[f"future_{name}/{kind}/layer{layer}"] = 1 - share[:, layer, 0]
  for how in CUT_METHODS:
    use = edge_usefulness(found.rises[how])
    for layer in range(use.own.shape[1]):
      for name, x in (("own", use.own), ("future", use.future)):
        by_name[f"{name}/{how}/layer{layer}"] = x[:, layer, KEYS].mean(axis=1)
  return {
    seed: {name: float(x[e]) for name, x in by_name.items()}
    for e, seed in enumerate(seeds)
  }


def measurements(
  found: AnatomyByVariant, seeds: Mapping[str, Sequence[int]]
) -> pa.Table:
  """Shares and norms by variant, seed, kind, layer, head and distance.

  Args:
    found: measures by variant.
    seeds: the seeds of each variant.

  Returns:
    One row per norm, with the columns variant, seed, gradient, layer, head,
    distance, norm, norm_share and signed_share.
  """
  columns: dict[str, list[Any]] = {
    name: []
    for name in (
      *("variant", "seed", "gradient", "layer", "head", "distance"),
      *("norm", "norm_share", "signed_share"),
    )
  }
  for variant, one in found.items():
    for kind in KINDS:
      gram = one.grams[kind].astype(np.float64)
      norm = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
      by_head = [
        distance_shares(gram[:, :, head : head + 1])
        for head in range(gram.shape[2])
      ]
      for e, layer, head, d in np.ndindex(norm.shape):
        row = (
          *(variant, seeds[variant][e], kind, layer, head, d),
          float(norm[e, layer, head, d]),
          float(by_head[head]["norm"][e, layer, d]),
          float(by_head[head]["signed"][e, layer, d]),
        )
        for column, value in zip(columns.values(), row, strict=True):
          column.append(value)
  return pa.table(columns)


def arrays(
  found: AnatomyByVariant, directions: DirectionsByStep
) -> dict[str, np.ndarray]:
  """All measured arrays, by names that give variant and measure.

  Args:
    found: measures by variant.
    directions: by training step, the measures [E] of `measure_directions`.

  Returns:
    `VARIANT/grams/KIND` [E, L, N, T, T], `VARIANT/influence` [E, L + 1, T, T],
    `VARIANT/parameter_influence` [E, T, T], `VARIANT/rises/HOW` [E, L, T, T],
    and `directions/STEP/NAME` [E].
  """
  named = {
    f"directions/{step}/{name}": values
    for step, measures in directions.items()
    for name, values in measures.items()
  }
  for variant, one in found.items():
    named[f"{variant}/influence"] = one.influence
    named[f"{variant}/parameter_influence"] = one.parameter_influence
    named |= {f"{variant}/grams/{k}": x for k, x in one.grams.items()}
    named |= {f"{variant}/rises/{k}": x for k, x in one.rises.items()}
  return named
