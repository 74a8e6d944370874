"""What the gradient anatomy says: claims, tables and measurements."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jaxlook import reporting, stats
from jaxlook.lookahead.gradient_anatomy import (
  CUT_METHODS,
  KINDS,
  AnatomyResults,
  distance_shares,
  edge_usefulness,
)
from jaxlook.lookahead.gradient_directions import STOPS
from jaxlook.stats.myopia_gap import source_of

Examinations = Mapping[str, AnatomyResults]
Directions = Mapping[int, Mapping[str, np.ndarray]]

_THREAD = (
  "nostalgebraist, shortform on LessWrong (greaterwrong.com/posts/"
  "A5PJYKw8tw38JpbJC), an argument without an experiment"
)
_ANGLES = "notebook grad_angle of the code of Wu et al. 2024"
_OURS = "jaxlook's own"
_TINY = float(np.nextafter(0.0, 1.0))
NAMES = {
  "key": "keys",
  "value": "values",
  "key_kernel": "W_K",
  "value_kernel": "W_V",
}


def counted_share(length: int) -> float:
  """The future's share of all pairs of query and key: (N - 1) / (N + 1)."""
  return (length - 1) / (length + 1)


def claims(
  found: Examinations,
  trained: str,
  untrained: str,
  directions: Directions,
  early: int | None,
  unit: str,
) -> list[stats.Claim]:
  """The published claims, and the one of the thread, with their verdicts.

  Args:
    found: examinations by variant.
    trained: the variant whose training is followed.
    untrained: the same seeds before it; may be missing.
    directions: `compare_gradients` [E] by step, of the trained variant.
    early: the step that counts as early; None if training was not followed.
    unit: of the loss.

  Returns:
    Claims; none where there are fewer than two seeds.
  """
  if len(found[trained].influence) < 2:
    return []
  made = []
  for variant in (untrained, trained):
    for kind in ("key_kernel", "value_kernel") if variant in found else ():
      future_ExL = (
        1.0 - distance_shares(found[variant].grams[kind])["norm"][..., 0]
      )
      for layer in range(future_ExL.shape[1]):
        made.append(
          stats.claim(
            f"L1/{variant}/{NAMES[kind]}/layer{layer}",
            f"of the squared gradient norms of {NAMES[kind]} by distance, more"
            f" than half is future-directed (d > 0), {variant}, layer {layer};"
            " the bound of a half is jaxlook's",
            _THREAD,
            "share",
            stats.mean_interval(future_ExL[:, layer]),
            low=math.nextafter(0.5, 1.0),
          )
        )
  # In layers below the last, cut edges of other positions have a part in it.
  last = found[trained].rises[CUT_METHODS[0]].shape[1] - 1
  for how in CUT_METHODS:
    use = edge_usefulness(found[trained].rises[how][:, last:])
    more_E = (use.future - use.own)[:, 0, _KEYS].mean(axis=1)
    made.append(
      stats.claim(
        f"L1/useful/{how}",
        "keys and values of the last layer are worth more to later positions"
        f" than to their own (edges cut, {CUT[how]}); the estimate is the"
        " rise of future losses minus that of the own, mean over keys",
        _THREAD,
        unit,
        stats.mean_interval(more_E, pairing="within a seed"),
        low=_TINY,
      )
    )
  for stop in STOPS:
    made += _angle_claims(stop, directions, early, trained)
  return made


_KEYS = slice(1, -1)
"""The first key cannot be cut from its own row, the last has no future."""


def _angle_claims(
  stop: str, directions: Directions, early: int | None, trained: str
) -> list[stats.Claim]:
  """The sign of the cosine early and late, and the size of mixed paths."""
  late = max(directions)
  source = source_of(stop, _ANGLES)
  cosine = {
    step: measures[f"{stop}/cos_myopic_future"]
    for step, measures in directions.items()
  }
  what = "the cosine of the myopic and the future gradient"
  made = [
    stats.claim(
      f"mixed/{stop}",
      "paths that look back in one layer and stay in another hold more than a"
      f" tenth of the gradient's norm, {trained}",
      _OURS,
      "norm over the vanilla norm",
      stats.mean_interval(directions[late][f"{stop}/ratio_mixed"]),
      low=0.1,
    )
  ]
  if early is None or early == late:
    return made
  for name, words, evidence, low, high in (
    (
      "early",
      f"is negative after {early} steps under {trained}",
      stats.mean_interval(cosine[early]),
      -math.inf,
      -_TINY,
    ),
    (
      "late",
      f"is positive after {late} steps under {trained}",
      stats.mean_interval(cosine[late]),
      _TINY,
      math.inf,
    ),
    (
      "rise",
      f"is higher after {late} than after {early} steps under {trained}",
      stats.compare(
        dict(enumerate(cosine[late])), dict(enumerate(cosine[early]))
      ),
      _TINY,
      math.inf,
    ),
  ):
    made.append(
      stats.claim(
        f"W13/{stop}/{name}",
        f"{what} {words}",
        source,
        "cosine",
        evidence,
        low=low,
        high=high,
      )
    )
  return made


CUT = {
  "renormalise": "the other weights scaled up",
  "mean": "the value replaced by its mean",
}


def tables(
  found: Examinations, directions: Directions, unit: str
) -> dict[str, reporting.Rows]:
  """Future-directed shares, usefulness of edges, and directions by step.

  Args:
    found: examinations by variant.
    directions: `compare_gradients` [E] by step.
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
          [variant, NAMES[kind], str(layer), *parts[0], *parts[1]]
          + [str(len(one.influence))]
        )
    for how in CUT_METHODS:
      use = edge_usefulness(one.rises[how])
      for layer in range(use.own.shape[1]):
        parts = [
          _cells(x[:, layer, _KEYS].mean(axis=1)) for x in (use.own, use.future)
        ]
        useful.append(
          [variant, CUT[how], str(layer), *parts[0], *parts[1]]
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
    "Future-directed share of the gradient, all heads (of the pairs of query"
    f" and key, {share} are future-directed)": future,
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
  """A variant's future shares and usefulness, the metrics of its cells."""
  by_name: dict[str, np.ndarray] = {}
  for kind in KINDS:
    for name, share in distance_shares(found.grams[kind]).items():
      for layer in range(share.shape[1]):
        by_name[f"future_{name}/{kind}/layer{layer}"] = 1 - share[:, layer, 0]
  for how in CUT_METHODS:
    use = edge_usefulness(found.rises[how])
    for layer in range(use.own.shape[1]):
      for name, x in (("own", use.own), ("future", use.future)):
        by_name[f"{name}/{how}/layer{layer}"] = x[:, layer, _KEYS].mean(axis=1)
  return {
    seed: {name: float(x[e]) for name, x in by_name.items()}
    for e, seed in enumerate(seeds)
  }


def measurements(
  found: Examinations, seeds: Mapping[str, Sequence[int]]
) -> pa.Table:
  """Shares and norms by variant, seed, kind, layer, head and distance.

  Args:
    found: examinations by variant.
    seeds: the seeds of each.

  Returns:
    One row a number of grams: columns variant, seed, gradient, layer, head,
    distance, norm, norm_share, signed_share.
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
  found: Examinations, directions: Directions
) -> dict[str, np.ndarray]:
  """All that was measured, by names that say what and of which variant.

  Args:
    found: examinations by variant.
    directions: `compare_gradients` [E] by step.

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
