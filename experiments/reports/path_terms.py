"""What path terms say of several variants: tables, claims and panels."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxlook import stats
from jaxlook.circuits.term_losses import (
  BEFORE,
  DIRECT,
  ON_TOP,
  OWN,
  PathTermResults,
  named_values,
  order_name,
)
from jaxlook.reporting.figures import Curves
from jaxlook.reporting.tables import Rows, comparison_table, measure_table
from jaxlook.stats.myopia_gap import CAUSAL, KV, RESIDUAL

_SOURCE = "Elhage et al. 2021, transformer-circuits.pub/2021/framework"
_OWN = "jaxlook's own"
_POSITIVE = math.nextafter(0.0, 1.0)
_TENTH = 0.1
NOTES = (
  "Verdicts are of each claim by itself; the table of paired differences"
  " adjusts its p-values for all that it holds.",
  "Attention patterns and the deviations that LayerNorms divide by are those of"
  " the whole model throughout. Order 1 holds the paths through one head, order"
  " n those through n heads one after the other. The direct path is measured"
  " from predicting all tokens alike, every order on top of all shorter ones.",
  "Paths that never leave their position say what the token itself says, as"
  " the direct path does, and no later position asks for them. What paths"
  " bring from earlier positions is therefore told apart, on top of all others"
  " of the same order and of lower ones.",
  "Patterns are not taken apart: what a head does for the queries and keys of a"
  " later one is in no term, and Q- and K-composition only in the scores, where"
  " the untrained models show what random weights have.",
)


def tables(
  found: Sequence[PathTermResults], vocab_size: int
) -> dict[str, Rows]:
  """All measures, and their differences between variants.

  Args:
    found: what was measured of every variant, the main one first.
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
  """Order 2 against order 1, and whether the future had to ask for either.

  Args:
    found: what was measured of every variant.
    vocab_size: V.

  Returns:
    Claims; none from fewer than two seeds.
  """
  values = named_values(found, vocab_size)
  single, virtual = (values.get(order_name(order), {}) for order in (1, 2))
  before = [
    (kind, values.get(f"{order_name(order)}{BEFORE}", {}))
    for order, kind in ((1, "single"), (2, "virtual"))
  ]
  pairs = [
    (
      *("E2/order", single.get(CAUSAL, {}), virtual.get(CAUSAL, {})),
      f"{CAUSAL}'s single heads lower the loss more than its virtual heads do;"
      " the estimate is the difference (published: 5.2 and 0.3 nats, as quoted"
      " second-hand)",
      _SOURCE,
    ),
    *(
      (
        *(f"asked/{kind}/{stop}", of.get(CAUSAL, {}), of.get(variant, {})),
        f"what {kind} heads bring from earlier positions lowers the loss more"
        f" under {CAUSAL} than under {variant}; the estimate is the difference",
        _OWN,
      )
      for kind, of in before
      for stop, variant in (("residual", RESIDUAL), ("kv", KV))
    ),
  ]
  claimed = [
    stats.claim(
      *(id, statement, source, "nats/token", stats.compare(a, b)),
      low=_POSITIVE,
    )
    for id, a, b, statement, source in pairs
    if len(a.keys() & b.keys()) >= 2
  ]
  ratio = [
    virtual[CAUSAL][seed] / value
    for seed, value in single.get(CAUSAL, {}).items()
    if virtual and value > 0.0
  ]
  if len(ratio) >= 2:
    claimed.append(
      stats.claim(
        "E2/tenth",
        f"{CAUSAL}'s virtual heads lower the loss by at most {_TENTH} of what"
        " its single heads do, of seeds whose single heads do; the estimate is"
        " the ratio. The source names no bound, only that it is much less",
        *(_OWN, "ratio", stats.mean_interval(ratio)),
        high=_TENTH,
      )
    )
  return claimed


def panels(
  found: Sequence[PathTermResults], vocab_size: int
) -> list[list[Curves]]:
  """The loss as orders are added, and what the terms of each are worth.

  Args:
    found: what was measured of every variant.
    vocab_size: V.

  Returns:
    A row of panels.
  """
  values = named_values(found, vocab_size)
  layers = found[0].losses.alone.shape[-1]

  def panel(title: str, names: Mapping[str, str], xlabel: str) -> Curves:
    return Curves(
      title=title,
      x=list(names.values()),
      xlabel=xlabel,
      ylabel="nats/token",
      curves={
        each.variant: np.array(
          [list(values[name][each.variant].values()) for name in names]
        )
        for each in found
      },
      levels={"nothing": 0.0},
      scale="steps",
    )

  shown = [
    Curves(
      title="Loss with all paths through at most n heads",
      x=np.arange(layers + 1),
      xlabel="n",
      ylabel="nats/token",
      curves={each.variant: np.asarray(each.losses.orders).T for each in found},
      scale="steps",
    ),
    panel(
      "Fall of the loss by order, on top of all shorter paths",
      {
        f"{order_name(order)}{part}": f"{order}, {short}"
        for order in range(1, layers + 1)
        for part, short in ((OWN, "here"), (BEFORE, "before"))
      },
      "order, by paths that stay here or come from earlier positions",
    ),
  ]
  if layers > 1:
    shown.append(
      panel(
        "Fall of the loss by the single heads of a layer",
        {
          f"layer {layer} {how}": f"{layer}, {short}"
          for layer in range(1, layers + 1)
          for how, short in (("alone", "alone"), (ON_TOP, "on top"))
        },
        "layer, on top of the direct path or of the other layers too",
      )
    )
  return [shown]
