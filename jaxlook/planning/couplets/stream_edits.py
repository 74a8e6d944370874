"""Runs a model under changes of its residual stream, one after the other.

A change gives the stream another value at the positions of one place, where it
enters one layer. The stream there does not depend on what comes later, so a
change holds for whatever line 2 becomes, and adding a vector is the same as
giving the value with the vector added.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.decoding import Sampling, generate
from jaxlook.interventions import edits
from jaxlook.interventions.forward import capture, run
from jaxlook.models import Decoder
from jaxlook.models.decoder import Params
from jaxlook.models.sites import NO_EDITS, Edit, Edits, residual_site
from jaxlook.planning.couplets import writing
from jaxlook.planning.couplets.answers import (
  Effect,
  LineParts,
  effects,
  model_answers,
  planner_answers,
)
from jaxlook.planning.couplets.places import Place, line2, masks
from jaxlook.planning.couplets.writing import WrittenLines, fit_shares
from jaxlook.tasks.couplets import Couplets
from jaxlook.tasks.task import Batch


class Changes(NamedTuple):
  """K kinds of changes of a batch of B couplets.

  Attributes:
    values: from a kind, a traced integer, to the streams into all layers,
      [L, B, T, D].
    valid: which couplets count under each kind, bool [K, B].
    target: the class that is meant for each couplet, int [B].
  """

  values: Callable[[jax.Array], jax.Array]
  valid: jax.Array
  target: jax.Array


def streams(decoder: Decoder, params: Params, inputs: jax.Array) -> jax.Array:
  """The residual stream into each layer, [L, B, T, D], of one seed."""
  sites = [
    residual_site(decoder.config, layer)
    for layer in range(decoder.config.layers)
  ]
  _, seen = capture(decoder, params, inputs, sites)
  return jnp.stack([seen[site] for site in sites])


def expectations(
  decoder: Decoder,
  task: Couplets,
  params: Params,
  batch: Batch,
  changes: Changes,
  chosen: tuple[Place, ...],
) -> LineParts[Effect]:
  """What a model expects of line 2 under every change.

  Args:
    decoder: the model.
    task: the arm.
    params: of one seed.
    batch: couplets.
    changes: what the stream is changed to.
    chosen: the places, P of them.

  Returns:
    An `answers.Effect` of topic, article and ending, each [K, L, P, G].
  """
  truth = task.truth(batch)
  truths = planner_answers(task, truth, changes.target)

  def answers(edits: Edits) -> LineParts[jax.Array]:
    return model_answers(task, run(decoder, params, batch.inputs, edits))

  before = answers(NO_EDITS)

  def measured(kind: jax.Array, edits: Edits) -> LineParts[Effect]:
    valid = changes.valid[kind]
    return effects(answers(edits), before, truths, valid, truth.rhymes)

  return sweep(decoder, changes, jnp.asarray(masks(task, chosen)), measured)


def writings(
  decoder: Decoder,
  task: Couplets,
  params: Params,
  batch: Batch,
  changes: Changes,
  chosen: tuple[Place, ...],
  sampling: Sampling,
  key: jax.Array,
) -> WrittenLines:
  """What a model writes as line 2 under every change.

  Args:
    decoder: the model.
    task: the arm.
    params: of one seed.
    batch: couplets.
    changes: what the stream is changed to.
    chosen: the places, P of them.
    sampling: how a token is drawn.
    key: a PRNG key, consumed; all changes draw with the same numbers.

  Returns:
    Shares of tokens that fit either class, each [K, L, P, G].
  """
  truth, prompts = task.truth(batch), batch.inputs[:, : line2(task)]

  def measured(kind: jax.Array, edits: Edits) -> WrittenLines:
    tokens = generate(
      *(decoder, params, prompts, writing.line_length(task)),
      sampling=sampling,
      key=key,
      edits=edits,
    ).tokens
    valid = changes.valid[kind]
    return fit_shares(tokens, truth.key, changes.target, valid, truth.rhymes)

  return sweep(decoder, changes, jnp.asarray(masks(task, chosen)), measured)


def sweep(
  decoder: Decoder,
  changes: Changes,
  masks: jax.Array,
  measured: Callable[[jax.Array, Edits], Any],
) -> Any:
  """Measures a model under every change at every layer and place.

  Which change, layer and place is traced, so one program serves all; they are
  run one after the other, so memory does not grow with their number.

  Args:
    decoder: the model.
    changes: what the stream is changed to.
    masks: the positions of each place, bool [P, T].
    measured: from the kind, a traced integer, and the edits, to a tree of
      arrays.

  Returns:
    The tree, with axes [K, L, P] in front of all arrays.
  """
  sizes = (len(changes.valid), decoder.config.layers, len(masks))
  indices = jnp.unravel_index(jnp.arange(sizes[0] * sizes[1] * sizes[2]), sizes)

  def one(index: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
    kind, layer, place = index
    values = changes.values(kind)

    def edit(at: int) -> Edit:
      mask = masks[place][None, :, None] & (layer == at)

      def change(x: jax.Array) -> jax.Array:
        # Who writes reads the prompt alone.
        read = slice(0, x.shape[1])
        return edits.patch(values[at][:, read], lambda _: mask[:, read])(x)

      return change

    return measured(
      kind,
      {residual_site(decoder.config, at): edit(at) for at in range(sizes[1])},
    )

  found = jax.lax.map(one, indices)
  return jax.tree.map(lambda x: x.reshape(sizes + x.shape[1:]), found)
