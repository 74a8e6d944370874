"""What path terms say of the seeds of several variants: tables and claims."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxlook import stats
from jaxlook.ablation import CAUSAL, KV, RESIDUAL
from jaxlook.circuits import composition
from jaxlook.circuits.term_losses import TermLosses, term_losses
from jaxlook.circuits.weights import head_weights
from jaxlook.figures import Curves
from jaxlook.lookahead.interventions import forward_only
from jaxlook.models import Decoder
from jaxlook.report import Rows, comparison_table, measure_table
from jaxlook.tasks.task import Batch, Task

_SOURCE = "Elhage et al. 2021, transformer-circuits.pub/2021/framework"
_OWN = "jaxlook's own"
_POSITIVE = math.nextafter(0.0, 1.0)
_TENTH = 0.1
_REST = "on top of the other layers"
DIRECT = "direct path"

Values = Mapping[int, float]


class Measured(NamedTuple):
  """Path terms of one variant's seeds.

  Attributes:
    variant: the attention's flag form, or what else tells the models apart.
    seeds: those that did not diverge.
    losses: with a leading seed axis E.
    composition: by kind, mean composition score of all pairs of heads in
      different layers, [E]; empty for one layer.
  """

  variant: str
  seeds: tuple[int, ...]
  losses: TermLosses
  composition: Mapping[str, np.ndarray]


def measure(
  task: Task, batch: Batch, variant: str, decoder: Decoder, seeds, params
) -> Measured:
  """Measures the path terms of one variant's models.

  Args:
    task: gives the loss.
    batch: the sequences to measure it on.
    variant: what the models are called.
    decoder: the attention-only model under the variant.
    seeds: of the models.
    params: parameters with a leading seed axis E.

  Returns:
    The losses, and how far heads compose by their weights.

  Raises:
    ValueError: as `paths.freeze`.
  """
  losses, composed = jax.tree.map(
    np.asarray, _measure(forward_only(decoder), task, params, batch)
  )
  return Measured(variant, tuple(seeds), losses, composed)


# Compiled once for all variants, as their forward passes are one.
@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None, 0, None))
def _measure(
  decoder: Decoder, task: Task, params: Any, batch: Batch
) -> tuple[TermLosses, dict[str, jax.Array]]:
  config = decoder.config
  weights = head_weights(config, params, fold_norms=True)
  pairs = config.layers * (config.layers - 1) // 2 * config.heads**2
  scores = {}
  if pairs:
    scores = {
      kind: jnp.sum(composition.composition(weights, kind)) / pairs
      for kind in get_args(composition.Kind)
    }
  return term_losses(decoder, task, params, batch), scores


def measures(
  found: Sequence[Measured], vocab_size: int
) -> dict[str, dict[str, dict[int, float]]]:
  """Losses, reductions and composition scores.

  Args:
    found: what was measured of every variant.
    vocab_size: V; predicting all tokens alike costs log V nats.

  Returns:
    Numbers by measure, variant and seed.
  """
  layers = found[0].losses.alone.shape[-1]
  result: dict[str, dict[str, dict[int, float]]] = {}

  def add(name: str, each: Measured, values: ArrayLike):
    by_seed = dict(zip(each.seeds, np.asarray(values).tolist(), strict=True))
    result.setdefault(name, {})[each.variant] = by_seed

  for each in found:
    losses = each.losses
    add(DIRECT, each, math.log(vocab_size) - losses.orders[:, 0])
    for order in range(layers):
      add(order_name(order + 1), each, losses.marginal[:, order])
    for layer in range(layers if layers > 1 else 0):
      add(f"layer {layer + 1} alone", each, losses.layer_alone[:, layer])
      name = f"layer {layer + 1} {_REST}"
      add(name, each, losses.layer_on_top[:, layer])
    for order in range(layers + 1):
      add(f"loss up to order {order}", each, losses.orders[:, order])
    for kind, scores in each.composition.items():
      add(f"{kind} composition", each, scores)
  return result


def order_name(order: int) -> str:
  """What the paths through a number of heads are called."""
  names = {1: "single heads", 2: "virtual heads of two"}
  return names.get(order, f"virtual heads of {order}")


def tables(found: Sequence[Measured], vocab_size: int) -> dict[str, Rows]:
  """All measures, and their differences between variants.

  Args:
    found: what was measured of every variant, the main one first.
    vocab_size: V.

  Returns:
    Rows by title.
  """
  values = measures(found, vocab_size)
  layers = found[0].losses.alone.shape[-1]
  orders = [order_name(order + 1) for order in range(layers)]
  groups = {
    "Fall of the loss by terms, nats/token": [
      *(DIRECT, *orders),
      *(name for name in values if name.startswith("layer")),
    ],
    "Loss by terms, nats/token": [n for n in values if n.startswith("loss")],
    "Mean composition score of two heads in different layers": [
      name for name in values if name.endswith("composition")
    ],
  }
  shown = {
    title: measure_table({name: values[name] for name in names})
    for title, names in groups.items()
    if names
  }
  first = found[0].variant
  compared = {}
  for name in (*orders, *(n for n in values if n.endswith("composition"))):
    for each in found[1:]:
      a, b = values[name][first], values[name][each.variant]
      if len(a.keys() & b.keys()) >= 2:
        compared[f"{name}: {first} - {each.variant}"] = stats.compare(a, b)
  if compared:
    shown["Paired differences"] = comparison_table(compared)
  return shown


def claims(found: Sequence[Measured], vocab_size: int) -> list[stats.Claim]:
  """Order 2 against order 1, and whether the future had to ask for either.

  Args:
    found: what was measured of every variant.
    vocab_size: V.

  Returns:
    Claims; none from fewer than two seeds.
  """
  values = measures(found, vocab_size)
  single, virtual = (values.get(order_name(order), {}) for order in (1, 2))
  claimed: list[stats.Claim] = []

  def claim(id, statement, source, unit, a: Values, b: Values, **bounds):
    if len(a.keys() & b.keys()) >= 2:
      evidence = stats.compare(a, b)
      claimed.append(
        stats.claim(id, statement, source, unit, evidence, **bounds)
      )

  published = "published: 5.2 and 0.3 nats, as quoted second-hand"
  if CAUSAL in virtual:
    one, two = single[CAUSAL], virtual[CAUSAL]
    claim(
      "E2/order",
      f"{CAUSAL}'s single heads lower the loss more than its virtual heads do;"
      f" the estimate is the difference ({published})",
      *(_SOURCE, "nats/token", one, two),
      low=_POSITIVE,
    )
    claim(
      "E2/tenth",
      f"{CAUSAL}'s virtual heads lower the loss by less than {_TENTH} of what"
      f" its single heads do; the estimate is what is left to {_TENTH} of it",
      *(_SOURCE, "nats/token"),
      {seed: _TENTH * value for seed, value in one.items()},
      two,
      low=_POSITIVE,
    )
  for id, values in (("single", single), ("virtual", virtual)):
    for stop, variant in (("residual", RESIDUAL), ("kv", KV)):
      claim(
        f"asked/{id}/{stop}",
        f"{id} heads lower the loss more under {CAUSAL} than under {variant};"
        " the estimate is the difference",
        *(_OWN, "nats/token"),
        values.get(CAUSAL, {}),
        values.get(variant, {}),
        low=_POSITIVE,
      )
  return claimed


def panels(found: Sequence[Measured], vocab_size: int) -> list[list[Curves]]:
  """The loss as orders are added, and what the terms of each are worth.

  Args:
    found: what was measured of every variant.
    vocab_size: V.

  Returns:
    A row of panels.
  """
  values = measures(found, vocab_size)
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
      "Fall of the loss by order",
      {order_name(n): f"order {n}" for n in range(1, layers + 1)},
      "on top of all shorter paths",
    ),
  ]
  if layers > 1:
    shown.append(
      panel(
        "Fall of the loss by the single heads of a layer",
        {
          f"layer {layer} {how}": f"{layer}, {short}"
          for layer in range(1, layers + 1)
          for how, short in (("alone", "alone"), (_REST, "on top"))
        },
        "layer, on top of the direct path or of the other layers too",
      )
    )
  return [shown]
