"""What a key is good for: the loss when the attention edges from it are cut.

An edge leads from a key position j to the query i >= j that reads it. The edge
of distance d = i - j = 0 serves the key's own position, all others serve later
ones. A key and value written at j are read by one own query and N - 1 - j later
ones, so training should shape them for the later ones; this measures for whom
they work in a trained model.

Source of the question: nostalgebraist, LessWrong, comment on "mis-
understandings" (the shortform thread), which argues it without an experiment.
The two ways of cutting are ours.
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
  """For whom a layer's keys and values work; all in the loss's unit.

  Attributes:
    own: by key position j, the rise at j itself when it cannot read its own key
      and value, [T].
    future: by key position j, the rises at all later positions, each when it
      cannot read j, added up, [T]; 0 at the last.
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
  how: CutMethod,
  teacher: TeacherContext | None = None,
) -> jax.Array:
  """The rise of the loss when the edges of one distance are cut in one layer.

  For each distance d, all edges from key i - d to query i, in all heads, are
  removed together. In the last layer an edge moves the output of its own query
  alone, so the entry [d, i] is the effect of the edge from i - d to i and of
  nothing else. In layers below, position i also reads other positions that
  lost their edge of distance d; the entry then holds what they pass on, too.

  "renormalise" takes the edge out of the softmax: its weight is 0 and the rest
  of the row is divided by its sum. A row with nothing left stays as it is: the
  query at 0, which sees itself only, and rows whose whole weight is on the
  edge; the rise is too small there. "mean" keeps the pattern, and the value
  read along the edge becomes its mean over the batch, by key position and
  head: what is removed is what the value says about this sequence.

  Distances are taken one after the other in one program, so memory does not
  grow with their number, and what removes nothing has a rise of exactly 0.

  Args:
    decoder: the model; run without its gradient cuts, on the reference path.
    params: its parameters, of one seed.
    inputs: as of `Decoder`; "mean" needs more than one sequence to say much.
    loss: from the outputs to the loss at every position, [B, T].
    layer: which layer's edges, in 0 .. layers - 1.
    how: "renormalise" or "mean".
    teacher: as of `Decoder`.

  Returns:
    The rise by distance and query, [T, T], mean over the batch, in the loss's
    unit. Row d is 0 left of column d: those queries have no such edge.

  Raises:
    ValueError: the layer is out of range, `how` is unknown, or as `capture`.
    AssertionError: the loss is not [B, T].
  """
  layers = decoder.config.layers
  if not 0 <= layer < layers:
    raise ValueError(f"layer must lie in 0..{layers - 1}, not {layer}")
  if how not in get_args(CutMethod):
    raise ValueError(f"how must be one of {get_args(CutMethod)}, not {how!r}")
  # One path for all runs: two that agree to rounding would blur the zeros.
  decoder = decoder.clone(implementation="reference")
  length = inputs.shape[1]
  pattern_site, head_site = (
    f"block_{layer}/attention/{name}" for name in ("pattern", "head")
  )

  def captured(site: str, edits: Edits) -> jax.Array:
    return capture(decoder, params, inputs, (site,), edits, teacher)[1][site]

  att_BxNxTxS = captured(pattern_site, {})

  def edits_without(edge_TxS: jax.Array) -> Edits:
    if how == "renormalise":
      without = renormalise_without(att_BxNxTxS, edge_TxS)
      return {pattern_site: lambda _: without}
    # A pattern of nothing but the edge reads the very values that the variant
    # reads there, be they its own, zeros or a teacher's.
    alone = jnp.broadcast_to(
      edge_TxS[None, None].astype(att_BxNxTxS.dtype), att_BxNxTxS.shape
    )
    value_BxTxNxH = captured(head_site, {pattern_site: lambda _: alone})
    weight_BxNxT = jnp.sum(att_BxNxTxS * alone, axis=-1)
    change_BxTxNxH = jnp.swapaxes(weight_BxNxT, 1, 2)[..., None] * (
      jnp.mean(value_BxTxNxH, axis=0, keepdims=True) - value_BxTxNxH
    )
    return {head_site: lambda z: z + change_BxTxNxH.astype(z.dtype)}

  def losses(distance: jax.Array) -> jax.Array:
    position = jnp.arange(length)
    edge_TxS = position[:, None] - position[None] == distance
    values = loss(
      run(decoder, params, inputs, edits_without(edge_TxS), teacher)
    )
    chex.assert_shape(values, (inputs.shape[0], length))
    return values

  # No edge has distance `length`: that run is the unharmed model.
  runs_KxBxT = jax.lax.map(losses, jnp.arange(length + 1))
  return jnp.mean(runs_KxBxT[:-1] - runs_KxBxT[-1:], axis=1)


def usefulness(rise: jax.Array) -> Usefulness:
  """Sorts rises by whom a key served: its own position or later ones.

  Rises of different edges are added as if they were independent; they are
  measured one distance at a time, not together.

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
  """The pattern with the weight of some edges spread over the others.

  Args:
    att_BxNxTxS: attention patterns; floating.
    edge_TxS: which edges are cut in all heads, bool.

  Returns:
    The pattern with 0 there and the rest of each row divided by its sum; a row
    with nothing left stays as it is.
  """
  kept = jnp.where(edge_TxS[None, None], 0.0, att_BxNxTxS)
  left = jnp.sum(kept, axis=-1, keepdims=True)
  some = left > jnp.finfo(att_BxNxTxS.dtype).tiny
  return jnp.where(some, kept / jnp.where(some, left, 1.0), att_BxNxTxS)
