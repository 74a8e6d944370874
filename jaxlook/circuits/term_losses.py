"""Losses with some path terms left out: how much the paths of an order help.

Patterns and the deviations of LayerNorm are always those of the whole model;
see `paths`.

Source: Elhage et al. (2021), section "Two-layer attention-only transformers",
"Term importance analysis".
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxlook.circuits import composition, paths
from jaxlook.circuits.weights import head_weights
from jaxlook.errors import check_ids
from jaxlook.interventions.forward import forward_only
from jaxlook.models import Decoder
from jaxlook.tasks.task import Batch, Task


class TermLosses(NamedTuple):
  """Mean losses on a batch, in the task's unit.

  Attributes:
    orders: with all paths through at most n heads, [L + 1], n = 0..L; the last
      is the model's own loss.
    own: with all paths through fewer than n heads, and the paths through n
      heads that never leave their position, [L], n = 1..L.
    alone: with the direct path, biases, and the single heads of one layer only,
      [L].
    without: with all paths through at most one head, except the single heads of
      one layer, [L].
  """

  orders: jax.Array
  own: jax.Array
  alone: jax.Array
  without: jax.Array

  @property
  def marginal(self) -> jax.Array:
    """How far paths through exactly n heads lower the loss, [..., L].

    It is the reduction on top of all shorter paths, for n = 1..L.
    """
    return self.orders[..., :-1] - self.orders[..., 1:]

  @property
  def marginal_own(self) -> jax.Array:
    """The part of `marginal` from paths that never leave their position."""
    return self.orders[..., :-1] - self.own

  @property
  def marginal_before(self) -> jax.Array:
    """The rest of `marginal`: paths that begin at earlier positions."""
    return self.own - self.orders[..., 1:]

  @property
  def layer_alone(self) -> jax.Array:
    """How far a layer's single heads alone lower the loss, [..., L].

    It is the reduction below the loss of the direct path and biases.
    """
    return self.orders[..., :1] - self.alone

  @property
  def layer_on_top(self) -> jax.Array:
    """How far they lower it on top of all other layers' heads, [..., L].

    Single heads only.
    """
    return self.without - self.orders[..., 1:2]


def term_losses(
  decoder: Decoder, task: Task, params: Any, batch: Batch, *, chunk: int = 16
) -> TermLosses:
  """Measures the loss of a model without some of its paths.

  Args:
    decoder: an attention-only model over tokens.
    task: defines the loss.
    params: the decoder's parameters, of one seed.
    batch: the sequences.
    chunk: sequences per step. It bounds memory: a few arrays of L x chunk x T x
      V numbers.

  Returns:
    The losses, means over sequences and positions.

  Raises:
    ValueError: see `paths.freeze`.
  """

  def one(sequence: Batch) -> TermLosses:
    sequence = jax.tree.map(lambda x: x[None], sequence)
    frozen = paths.freeze(decoder, params, sequence.inputs)
    orders = paths.order_logits(frozen)
    layers = paths.layer_terms(frozen)
    own = paths.order_terms(paths.at_own_position(frozen))[1:]

    def loss(logits: jax.Array) -> jax.Array:
      return jnp.mean(task.loss(logits, sequence))

    return TermLosses(
      orders=jax.vmap(loss)(orders),
      own=jax.vmap(loss)(orders[:-1] + own),
      alone=jax.vmap(loss)(orders[:1] + layers),
      without=jax.vmap(loss)(orders[1:2] - layers),
    )

  losses = jax.lax.map(one, batch, batch_size=chunk)
  return cast(TermLosses, jax.tree.map(lambda x: jnp.mean(x, axis=0), losses))


OWN = ", at their position"
BEFORE = ", from earlier positions"
ON_TOP = "on top of the other layers"
DIRECT = "direct path"


class PathTermResults(NamedTuple):
  """Path terms of one variant's seeds.

  Attributes:
    variant: the variant as in the flag, or another name of the models.
    seeds: the seeds that did not diverge.
    losses: the losses, with a leading seed axis E.
    composition: mean and largest composition score of pairs of heads in
      different layers, by name, [E]; empty for one layer.
  """

  variant: str
  seeds: tuple[int, ...]
  losses: TermLosses
  composition: Mapping[str, np.ndarray]


def measure_path_terms(
  task: Task, batch: Batch, variant: str, decoder: Decoder, seeds, params
) -> PathTermResults:
  """Measures the path terms of one variant's models.

  Args:
    task: defines the loss.
    batch: the sequences on which to measure.
    variant: the name of the models.
    decoder: the attention-only model under the variant.
    seeds: of the models.
    params: parameters with a leading seed axis E.

  Returns:
    The losses, and the composition scores of the weights.

  Raises:
    ValueError: see `paths.freeze`.
  """
  check_ids(decoder.config.vocab_size, batch.inputs)
  losses, composed = jax.tree.map(
    np.asarray, _measure(forward_only(decoder), task, params, batch)
  )
  return PathTermResults(variant, tuple(seeds), losses, composed)


# Compiled once for all variants, because they share the forward pass.
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
    for kind in get_args(composition.CompositionKind):
      found = composition.composition(weights, kind)
      scores[f"{kind} composition"] = jnp.sum(found) / pairs
      scores[f"{kind} composition, best pair"] = jnp.max(found)
  return term_losses(decoder, task, params, batch), scores


def named_values(
  found: Sequence[PathTermResults], vocab_size: int
) -> dict[str, dict[str, dict[int, float]]]:
  """All losses, reductions of the loss, and composition scores.

  Args:
    found: the results of every variant.
    vocab_size: V; the uniform prediction has a loss of log V nats.

  Returns:
    Numbers by measure, variant and seed.
  """
  layers = found[0].losses.alone.shape[-1]
  result: dict[str, dict[str, dict[int, float]]] = {}

  def add(name: str, each: PathTermResults, values: ArrayLike):
    by_seed = dict(zip(each.seeds, np.asarray(values).tolist(), strict=True))
    result.setdefault(name, {})[each.variant] = by_seed

  for each in found:
    losses = each.losses
    add(DIRECT, each, math.log(vocab_size) - losses.orders[:, 0])
    for order in range(layers):
      name = order_name(order + 1)
      add(name, each, losses.marginal[:, order])
      add(f"{name}{OWN}", each, losses.marginal_own[:, order])
      add(f"{name}{BEFORE}", each, losses.marginal_before[:, order])
    for layer in range(layers if layers > 1 else 0):
      add(f"layer {layer + 1} alone", each, losses.layer_alone[:, layer])
      name = f"layer {layer + 1} {ON_TOP}"
      add(name, each, losses.layer_on_top[:, layer])
    for order in range(layers + 1):
      add(f"loss up to order {order}", each, losses.orders[:, order])
    for name, scores in each.composition.items():
      add(name, each, scores)
  return result


def order_name(order: int) -> str:
  """The name of the paths through a number of heads."""
  names = {1: "single heads", 2: "virtual heads of two"}
  return names.get(order, f"virtual heads of {order}")
