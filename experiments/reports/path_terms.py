"""The report of `path_terms`: tables, claims and panels."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.common.results_writer import Drawing, Results, seed_cells
from experiments.common.study import Study
from experiments.common.trained_models import Subject, diverged_seeds
from jaxlook import stats
from jaxlook.circuits import composition
from jaxlook.circuits.term_losses import (
  BEFORE,
  DIRECT,
  ON_TOP,
  OWN,
  PathTermResults,
  named_values,
  order_name,
)
from jaxlook.numerals import counted
from jaxlook.reporting import figures
from jaxlook.reporting.figures import Curves
from jaxlook.reporting.tables import Rows, comparison_table, measure_table
from jaxlook.stats.claims import ABOVE_0
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL

_SOURCE = "Elhage et al. 2021, transformer-circuits.pub/2021/framework"
_OWN = "jaxlook's own"
_TENTH = 0.1
NOTES = (
  "Each verdict is for one claim alone. The table of paired differences adjusts"
  " its p-values for the number of its rows.",
  "Attention patterns and the deviations that LayerNorms divide by are always"
  " those of the whole model. Order 1 is the paths through one head; order n is"
  " the paths through n heads, one after the other. The direct path is compared"
  " with the uniform prediction. Every order is measured on top of all lower"
  " orders.",
  "Paths that never leave their position use only the token there, as the"
  " direct path does, and no later position asks for them. So paths from"
  " earlier positions are measured separately, on top of all other paths of the"
  " same order and of lower orders.",
  "Patterns are held constant: no term contains what a head does for the"
  " queries and keys of a later head. Q- and K-composition are measured by the"
  " composition scores only; compare them with those of the untrained models.",
)
_FIGURE = "path_terms.png"


def results(
  study: Study,
  subjects: Sequence[Subject],
  found: Sequence[PathTermResults],
  random: composition.Baseline,
  *,
  windows: int,
) -> Results:
  """Collects tables, figure, claims and cells.

  Args:
    study: what was studied.
    subjects: the models, untrained ones last.
    found: the results of each.
    random: composition scores of random weights of the same shapes.
    windows: number of held-out windows that were used.

  Returns:
    The results to write.
  """
  vocab_size = study.problem.model.vocab_size or 0
  labels = study.labels(
    f"{windows} held-out windows, {counted(len(subjects[0].seeds), 'seed')}"
  )
  return Results(
    name=study.name,
    title=study.title,
    setup=study.setup,
    notes=(
      *NOTES,
      "Composition scores of independent Gaussian weights of these shapes have"
      f" a mean of {float(random.mean):.4f} and a standard deviation over pairs"
      f" of heads of {float(random.deviation):.4f}.",
    ),
    figures={
      _FIGURE: Drawing(
        lambda path: figures.panels_figure(
          path, panels(found, vocab_size), **labels
        ),
        "Held-out loss as longer paths are added, and how far each order"
        " and each layer's single heads lower the loss; mean and 95% t interval"
        " over seeds.",
      )
    },
    tables=tables(found, vocab_size),
    claims=claims(found, vocab_size),
    cells=seed_cells(metrics(found, vocab_size), diverged_seeds(subjects)),
  )


def metrics(
  found: Sequence[PathTermResults], vocab_size: int
) -> dict[str, dict[int, dict[str, float]]]:
  """All measures by variant and seed."""
  values = named_values(found, vocab_size)
  return {
    each.variant: {
      seed: {
        name: by_variant[each.variant][seed]
        for name, by_variant in values.items()
      }
      for seed in each.seeds
    }
    for each in found
  }


def tables(
  found: Sequence[PathTermResults], vocab_size: int
) -> dict[str, Rows]:
  """All measures, and their differences between variants.

  Args:
    found: the results of every variant, the main one first.
    vocab_size: V.

  Returns:
    Rows by title.
  """
  values = named_values(found, vocab_size)
  layers = found[0].losses.alone.shape[-1]
  orders = [
    f"{order_name(order + 1)}{part}"
    for order in range(layers)
    for part in ("", OWN, BEFORE)
  ]
  groups = {
    "Fall of the loss by terms, nats/token": [
      *(DIRECT, *orders),
      *(name for name in values if name.startswith("layer")),
    ],
    "Loss by terms, nats/token": [n for n in values if n.startswith("loss")],
    "Composition scores of two heads in different layers": [
      name for name in values if " composition" in name
    ],
  }
  shown = {
    title: measure_table({name: values[name] for name in names})
    for title, names in groups.items()
    if names
  }
  first = found[0].variant
  compared = {}
  for name in (*orders, *(n for n in values if " composition" in n)):
    for each in found[1:]:
      a, b = values[name][first], values[name][each.variant]
      if len(a.keys() & b.keys()) >= 2:
        compared[f"{name}: {first} - {each.variant}"] = stats.compare(a, b)
  if compared:
    shown["Paired differences"] = comparison_table(compared)
  return shown


def claims(
  found: Sequence[PathTermResults], vocab_size: int
) -> list[stats.Claim]:
  """Compares order 2 with order 1, and both between variants.

  Args:
    found: the results of every variant.
    vocab_size: V.

  Returns:
    Claims; none from fewer than two seeds.
  """
  values = named_values(found, vocab_size)
  single, virtual = (
    values.get(order_name(order), {}).get(CAUSAL, {}) for order in (1, 2)
  )
  made = []
  if len(single.keys() & virtual.keys()) >= 2:
    made.append(
      stats.claim(
        "E2/order",
        f"{CAUSAL}'s single heads lower the loss more than its virtual heads"
        " do; the estimate is the difference (published: 5.2 and 0.3 nats, as"
        " quoted second-hand)",
        _SOURCE,
        "nats/token",
        stats.compare(single, virtual),
        **ABOVE_0,
      )
    )
  for order, kind in ((1, "single"), (2, "virtual")):
    before = values.get(f"{order_name(order)}{BEFORE}", {})
    made += _asked_claims(kind, before)
  ratio = [
    virtual[seed] / value
    for seed, value in single.items()
    if virtual and value > 0.0
  ]
  if len(ratio) >= 2:
    made.append(
      stats.claim(
        "E2/tenth",
        f"{CAUSAL}'s virtual heads lower the loss by at most {_TENTH} of what"
        " its single heads do; the estimate is the ratio, over seeds whose"
        " single heads lower the loss. The source gives no bound; it says only"
        " that the effect is much smaller",
        _OWN,
        "ratio",
        stats.mean_interval(ratio),
        high=_TENTH,
      )
    )
  return made


def _asked_claims(
  kind: str, before: Mapping[str, Mapping[int, float]]
) -> list[stats.Claim]:
  """Whether paths from earlier positions need gradient from later losses.

  Args:
    kind: of the heads, "single" or "virtual".
    before: how far these paths lower the loss, by variant and seed.

  Returns:
    One claim for each stop point; none from fewer than two seeds.
  """
  made = []
  causal = before.get(CAUSAL, {})
  for stop, variant in (("residual", RESIDUAL), ("kv", KV)):
    cut = before.get(variant, {})
    if len(causal.keys() & cut.keys()) >= 2:
      made.append(
        stats.claim(
          f"asked/{kind}/{stop}",
          f"paths from earlier positions through {kind} heads lower the loss"
          f" more under {CAUSAL} than under {variant}; the estimate is the"
          " difference",
          _OWN,
          "nats/token",
          stats.compare(causal, cut),
          **ABOVE_0,
        )
      )
  return made


def panels(
  found: Sequence[PathTermResults], vocab_size: int
) -> list[list[Curves]]:
  """The loss as orders are added, and how far the terms of each lower it.

  Args:
    found: the results of every variant.
    vocab_size: V.

  Returns:
    A row of panels.
  """
  values = named_values(found, vocab_size)
  layers = found[0].losses.alone.shape[-1]
  shown = [
    Curves(
      title="Loss with all paths through at most n heads",
      x=np.arange(layers + 1),
      xlabel="n",
      ylabel="nats/token",
      curves={each.variant: np.asarray(each.losses.orders).T for each in found},
      scale="steps",
    ),
    _reduction_panel(
      "Fall of the loss by order, on top of all shorter paths",
      "order; paths that stay at their position (here) or do not (before)",
      values,
      {
        f"{order_name(order)}{part}": f"{order}, {short}"
        for order in range(1, layers + 1)
        for part, short in ((OWN, "here"), (BEFORE, "before"))
      },
    ),
  ]
  if layers > 1:
    shown.append(
      _reduction_panel(
        "Fall of the loss by the single heads of a layer",
        "layer; on top of the direct path (alone) or of all other layers too",
        values,
        {
          f"layer {layer} {how}": f"{layer}, {short}"
          for layer in range(1, layers + 1)
          for how, short in (("alone", "alone"), (ON_TOP, "on top"))
        },
      )
    )
  return [shown]


def _reduction_panel(
  title: str,
  xlabel: str,
  values: Mapping[str, Mapping[str, Mapping[int, float]]],
  labels: Mapping[str, str],
) -> Curves:
  """How far some terms lower the loss.

  Args:
    title: of the panel.
    xlabel: what the labels are.
    values: all measures, by variant and seed.
    labels: labels of the measures to show.

  Returns:
    A panel with one curve per variant.
  """
  variants = list(next(iter(values.values())))
  return Curves(
    title=title,
    x=list(labels.values()),
    xlabel=xlabel,
    ylabel="nats/token",
    curves={
      variant: np.array(
        [list(values[name][variant].values()) for name in labels]
      )
      for variant in variants
    },
    levels={"nothing": 0.0},
    scale="steps",
  )
