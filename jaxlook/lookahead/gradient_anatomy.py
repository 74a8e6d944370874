"""All measures of the gradient anatomy on the seeds of one variant.

Puts together what `gradient_by_distance`, `influence`, `gradient_directions`
and `attention_edges` measure of one model, for all seeds in one program each,
with what follows from the inner products: shares by distance, summed over heads
or head by head.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.errors import check_ids
from jaxlook.interventions import attention_edges
from jaxlook.lookahead import gradient_by_distance, gradient_directions
from jaxlook.lookahead.influence import (
  influence,
  parameter_influence,
  total_influence,
)
from jaxlook.models import Decoder
from jaxlook.tasks.task import Batch, Task

KINDS = gradient_by_distance.InnerProducts._fields
CUT_METHODS = ("renormalise", "mean")
MOST_COPIED = 10**8
"""The most numbers that the T copies of a model's parameters may hold."""


class AnatomyResults(NamedTuple):
  """Results on a batch; every array has a leading seed axis E.

  Attributes:
    grams: inner products <g_d, g_d'> by kind (`KINDS`), [E, L, N, T, T].
    influence: |dL_i/dx_j| by layer, [E, L + 1, T, T].
    parameter_influence: |dL_i/dtheta_j| over all parameters, [E, T, T]; NaN for
      models whose T copies of the parameters exceed `MOST_COPIED` numbers.
    rises: the rise of the loss when the edges of a distance are cut, by cut
      method (`CUT_METHODS`), layer, distance and query, [E, L, T, T].
  """

  grams: Mapping[str, Any]
  influence: Any
  parameter_influence: Any
  rises: Mapping[str, Any]


def measure_anatomy(
  decoder: Decoder, task: Task, params: Any, batch: Batch
) -> AnatomyResults:
  """Measures the gradients of the models of one variant on a batch.

  Args:
    decoder: the model. Gradient cuts are removed.
    task: gives the loss.
    params: parameters with a leading seed axis E.
    batch: the sequences.

  Returns:
    The results, as NumPy arrays.

  Raises:
    ValueError: the variant changes the forward pass.
  """
  check_ids(decoder.config.vocab_size, batch.inputs)
  plain = gradient_directions.without_cuts(decoder, "auto")
  return jax.tree.map(np.asarray, _measure_anatomy(plain, task, params, batch))


# Compiled once for all variants, as cuts are removed.
@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None, 0, None))
def _measure_anatomy(
  decoder: Decoder, task: Task, params: Any, batch: Batch
) -> AnatomyResults:
  """The results for the parameters of one seed."""
  losses = functools.partial(task.loss, batch=batch)
  layers = gradient_by_distance.inner_products(
    decoder, params, batch.inputs, lambda outputs: jnp.mean(losses(outputs))
  )
  length = batch.inputs.shape[1]
  of_parameters = jnp.full((length, length), jnp.nan)
  if length * sum(x.size for x in jax.tree.leaves(params)) <= MOST_COPIED:
    of_parameters = total_influence(
      parameter_influence(decoder, params, batch.inputs, losses)
    )
  return AnatomyResults(
    grams={
      kind: jnp.stack([getattr(layer, kind) for layer in layers])
      for kind in KINDS
    },
    influence=influence(decoder, params, batch.inputs, losses),
    parameter_influence=of_parameters,
    rises={
      how: jnp.stack(
        [
          attention_edges.edge_removal(
            decoder, params, batch.inputs, losses, layer=layer, method=how
          )
          for layer in range(decoder.config.layers)
        ]
      )
      for how in CUT_METHODS
    },
  )


def distance_shares(gram: np.ndarray) -> dict[str, np.ndarray]:
  """Both shares by distance, over all heads together.

  Args:
    gram: [E, L, N, T, T].

  Returns:
    "norm" and "signed", each [E, L, T] and summing to one over distances.
  """
  # In NumPy: JAX would round to float32, and the shares must sum to one.
  together: Any = gram.astype(np.float64).sum(axis=2)
  return {
    "norm": np.asarray(gradient_by_distance.norm_share(together)),
    "signed": np.asarray(gradient_by_distance.signed_share(together)),
  }


def measure_directions(
  decoder: Decoder, task: Task, params: Any, batch: Batch
) -> dict[str, np.ndarray]:
  """`gradient_directions.compare_gradients` of all seeds, each [E].

  Args:
    decoder: see `measure_anatomy`.
    task: see `measure_anatomy`.
    params: see `measure_anatomy`.
    batch: see `measure_anatomy`.

  Raises:
    ValueError: see `measure_anatomy`.
  """
  check_ids(decoder.config.vocab_size, batch.inputs)
  plain = gradient_directions.without_cuts(decoder, "auto")
  found = _measure_directions(plain, task, params, batch)
  return {name: np.asarray(values) for name, values in found.items()}


@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None, 0, None))
def _measure_directions(
  decoder: Decoder, task: Task, params: Any, batch: Batch
) -> dict[str, jax.Array]:
  return gradient_directions.compare_gradients(
    decoder,
    params,
    batch.inputs,
    lambda outputs: jnp.mean(task.loss(outputs, batch)),
  )


def edge_usefulness(rises: np.ndarray) -> Any:
  """`attention_edges.usefulness` of every seed and layer of [E, L, T, T]."""
  found = jax.vmap(jax.vmap(attention_edges.usefulness))(jnp.asarray(rises))
  return jax.tree.map(np.asarray, found)
