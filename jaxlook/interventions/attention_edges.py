"""The loss when attention edges are cut: which positions does a key serve?

An edge connects a key position j to a query i >= j that reads it. The edge of
distance d = i - j = 0 serves the key's own position; all others serve later
positions. One query at j and N - 1 - j later ones read the key and value at j.
So one might expect training to shape them mainly for the later ones. This
module measures which positions they serve in a trained model.

The question is from nostalgebraist, LessWrong, comment on "mis-understandings"
(the shortform thread), which has no experiment. Both cut methods are ours.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import chex
import jax
import jax.numpy as jnp

from jaxlook.interventions.forward import TeacherContext, capture, run
from jaxlook.models import Decoder
from jaxlook.models.decoder import Params
from jaxlook.models.sites import Edits

CutMethod = Literal["renormalise", "mean"]


class Usefulness(NamedTuple):
  """Which positions a layer's keys and values serve; in the unit of the loss.

  Attributes:
    own: by key position j, the rise of the loss at j if j cannot read its own
      key and value, [T].
    future: by key position j, the sum of the rises at all later positions, each
      if it cannot read j, [T]; 0 at the last position.
    by_distance: the rise by distance d, mean over the queries i >= d that have
      such an edge, [T].
  """

  own: jax.Array
  future: jax.Array
  by_distance: jax.Array


def edge_removal(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  loss: Callable[[jax.Array], jax.Array],
  *,
  layer: int,
  method: CutMethod,
  teacher: TeacherContext | None = None,
) -> jax.Array:
  """The rise of the loss when the edges of one distance are cut in one layer.

  For each distance d, all edges from key i - d to query i are cut together, in
  all heads. In the last layer an edge affects only the output of its own query.
  So the entry [d, i] is the effect of the edge from i - d to i alone. In lower
  layers, position i also reads other positions that lost their edge of distance
  d, and the entry includes this indirect effect.

  "renormalise" sets the weight of the edge to 0 and scales the other weights of
  the row to sum to 1. A row without other weight stays as it is, so its rise is
  too small. This holds for the query at 0, which sees only itself, and for rows
  with all their weight on the edge. "mean" keeps the weights and replaces the
  value at the edge's key with its mean over the batch, by key position and
  head. So it removes what is specific to this sequence.

  Distances run one after the other in one program, so memory does not grow with
  their number. If nothing is removed, the rise is exactly 0.

  Args:
    decoder: the model; it runs without its gradient cuts, in the reference
      implementation.
    params: parameters of one seed.
    inputs: see `Decoder`; "mean" needs more than one sequence.
    loss: maps the outputs to the loss at every position, [B, T].
    layer: the layer of the edges, in 0 .. layers - 1.
    method: "renormalise" or "mean".
    teacher: see `Decoder`.

  Returns:
    The rise by distance and query, [T, T], mean over the batch, in the unit of
    the loss. Row d is 0 left of column d: those queries have no such edge.

  Raises:
    ValueError: the layer is out of range; the method is unknown; or see
      `capture`.
    AssertionError: the shape of the loss is not [B, T].
  """
  layers = decoder.config.layers
  if not 0 <= layer < layers:
    raise ValueError(f"layer must lie in 0..{layers - 1}, not {layer}")
  if method not in get_args(CutMethod):
    raise ValueError(
      f"method must be one of {get_args(CutMethod)}, not {method!r}"
    )
  # One implementation for all runs, so that "no effect" is exactly 0.
  decoder = decoder.clone(implementation="reference")
  length = inputs.shape[1]
  edits_without = _edge_cutter(decoder, params, inputs, teacher, layer, method)

  def losses(distance: jax.Array) -> jax.Array:
    position = jnp.arange(length)
    edge_TxS = position[:, None] - position[None] == distance
    values = loss(
      run(decoder, params, inputs, edits_without(edge_TxS), teacher)
    )
    chex.assert_shape(values, (inputs.shape[0], length))
    return values

  # No edge has the distance `length`, so the last run is the uncut model.
  runs_KxBxT = jax.lax.map(losses, jnp.arange(length + 1))
  return jnp.mean(runs_KxBxT[:-1] - runs_KxBxT[-1:], axis=1)


def _edge_cutter(
  decoder: Decoder,
  params: Params,
  inputs: jax.Array,
  teacher: TeacherContext | None,
  layer: int,
  method: CutMethod,
) -> Callable[[jax.Array], Edits]:
  """A function from edges, bool [T, S], to the edits that cut them."""
  pattern_site, head_site = (
    f"block_{layer}/attention/{name}" for name in ("pattern", "head")
  )

  def activation(site: str, edits: Edits) -> jax.Array:
    return capture(decoder, params, inputs, (site,), edits, teacher)[1][site]

  att_BxNxTxS = activation(pattern_site, {})

  def renormalise(edge_TxS: jax.Array) -> Edits:
    without = renormalise_without(att_BxNxTxS, edge_TxS)
    return {pattern_site: lambda _: without}

  def use_mean(edge_TxS: jax.Array) -> Edits:
    # With a pattern of this edge alone, the head outputs are the values at its
    # key, as the variant reads them: the model's own, zeros, or a teacher's.
    alone = jnp.broadcast_to(
      edge_TxS[None, None].astype(att_BxNxTxS.dtype), att_BxNxTxS.shape
    )
    value_BxTxNxH = activation(head_site, {pattern_site: lambda _: alone})
    weight_BxNxT = jnp.sum(att_BxNxTxS * alone, axis=-1)
    change_BxTxNxH = jnp.swapaxes(weight_BxNxT, 1, 2)[..., None] * (
      jnp.mean(value_BxTxNxH, axis=0, keepdims=True) - value_BxTxNxH
    )
    return {head_site: lambda z: z + change_BxTxNxH.astype(z.dtype)}

  return renormalise if method == "renormalise" else use_mean


def usefulness(rise: jax.Array) -> Usefulness:
  """Splits rises by the position that a key serves: its own or a later one.

  Rises of different edges are added as if they were independent, because each
  distance is cut in a separate run.

  Args:
    rise: by distance and query, [T, T], from `edge_removal`; floating.

  Returns:
    The rises by key and by distance.

  Raises:
    AssertionError: the rise is not square.
  """
  length = rise.shape[0]
  chex.assert_shape(rise, (length, length))
  distance_Tx1 = jnp.arange(length)[:, None]
  query_TxS = distance_Tx1 + jnp.arange(length)[None]
  by_key_TxS = jnp.where(
    query_TxS < length,
    rise[distance_Tx1, jnp.minimum(query_TxS, length - 1)],
    0.0,
  )
  return Usefulness(
    own=by_key_TxS[0],
    future=jnp.sum(by_key_TxS[1:], axis=0),
    by_distance=jnp.sum(by_key_TxS, axis=1) / (length - jnp.arange(length)),
  )


def renormalise_without(
  att_BxNxTxS: jax.Array, edge_TxS: jax.Array
) -> jax.Array:
  """The attention pattern without some edges, renormalised.

  Args:
    att_BxNxTxS: attention patterns; floating.
    edge_TxS: which edges are cut in all heads, bool.

  Returns:
    The pattern with 0 at these edges; the other weights of each row are scaled
    to sum to 1. A row without other weight stays as it is.
  """
  kept = jnp.where(edge_TxS[None, None], 0.0, att_BxNxTxS)
  left = jnp.sum(kept, axis=-1, keepdims=True)
  some = left > jnp.finfo(att_BxNxTxS.dtype).tiny
  return jnp.where(some, kept / jnp.where(some, left, 1.0), att_BxNxTxS)
