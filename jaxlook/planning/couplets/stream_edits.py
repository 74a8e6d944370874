"""Edits of the residual stream, and what a model of couplets does under them.

An edit replaces the residual stream at the positions of one place, at the input
of one layer. The stream there does not depend on later positions, so the same
edit is valid for any line 2 that the model writes. To add a vector, replace the
stream with the sum.

`expectations` and `written_lines` take an edit maker (`Swaps` or `Steering`)
and apply every kind of edit at every layer and place. Each function runs all
seeds in one program, compiled once for all variants with the same forward pass.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxlook.decoding import GREEDY, Sampling, generate
from jaxlook.interventions import edits as standard_edits
from jaxlook.interventions.forward import capture, forward_only, run
from jaxlook.models import Decoder
from jaxlook.models.decoder import Params
from jaxlook.models.sites import NO_EDITS, Edit, Edits, residual_site
from jaxlook.planning.couplets.answers import (
  Effect,
  LineParts,
  effects,
  model_answers,
  planner_answers,
)
from jaxlook.planning.couplets.places import Place, line2, masks, places
from jaxlook.planning.couplets.writing import (
  WrittenLines,
  fit_shares,
  line_length,
)
from jaxlook.tasks.couplets import Couplets
from jaxlook.tasks.task import Batch


class StreamEdits(NamedTuple):
  """Several kinds of edits of a batch of B couplets.

  Attributes:
    values: a function from the number of a kind to the new streams at the input
      of every layer, [L, B, T, D]. The number is a traced integer; it counts
      through the axes K in C order.
    valid: which couplets count under each kind, bool [*K, B].
    target: the class that the edit aims at for each couplet, int [B].
  """

  values: Callable[[jax.Array], jax.Array]
  valid: jax.Array
  target: jax.Array


class EditMaker(Protocol):
  """Makes the edits for one seed; a pytree, so it can pass `jax.jit`."""

  def edits(
    self, decoder: Decoder, task: Couplets, params: Params, batch: Batch
  ) -> StreamEdits:
    """The edits of a batch.

    Args:
      decoder: the model.
      task: the language.
      params: parameters of one seed.
      batch: couplets to edit.
    """
    ...


def residual_streams(
  decoder: Decoder, params: Params, inputs: jax.Array
) -> jax.Array:
  """The residual stream into each layer, [L, B, T, D], of one seed."""
  sites = [
    residual_site(decoder.config, layer)
    for layer in range(decoder.config.layers)
  ]
  _, streams = capture(decoder, params, inputs, sites)
  return jnp.stack([streams[site] for site in sites])


def expectations(
  maker: EditMaker,
  decoder: Decoder,
  task: Couplets,
  params: Any,
  batch: Batch,
  chosen: Sequence[Place] | None = None,
) -> LineParts[Effect]:
  """How edits move what models expect of line 2.

  Args:
    maker: makes the edits.
    decoder: the model under any variant, with the barrier of the task.
    task: the language.
    params: parameters with a leading seed axis E.
    batch: held-out couplets.
    chosen: the places to edit, P of them; all of `places(task)` by default.

  Returns:
    An `answers.Effect` of topic, article and ending, each [E, *K, L, P, G].
  """
  chosen = tuple(chosen or places(task))
  return _expectations(
    forward_only(decoder), task, chosen, maker, params, batch
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@functools.partial(jax.vmap, in_axes=(None, None, None, None, 0, None))
def _expectations(
  decoder: Decoder,
  task: Couplets,
  chosen: tuple[Place, ...],
  maker: EditMaker,
  params: Params,
  batch: Batch,
) -> LineParts[Effect]:
  made = maker.edits(decoder, task, params, batch)
  truth = task.truth(batch)
  planners = planner_answers(task, truth, made.target)

  def answers(edits: Edits) -> LineParts[jax.Array]:
    return model_answers(task, run(decoder, params, batch.inputs, edits))

  unedited = answers(NO_EDITS)

  def effect(valid: jax.Array, edits: Edits) -> LineParts[Effect]:
    return effects(answers(edits), unedited, planners, valid, truth.rhymes)

  return sweep(decoder, made, jnp.asarray(masks(task, chosen)), effect)


def written_lines(
  maker: EditMaker,
  decoder: Decoder,
  task: Couplets,
  params: Any,
  batch: Batch,
  chosen: Sequence[Place] | None = None,
  *,
  sampling: Sampling = GREEDY,
  key: jax.Array,
) -> WrittenLines:
  """Which class the line 2 fits that models write under edits.

  Args:
    maker: makes the edits.
    decoder: the model under any variant, with the barrier of the task.
    task: the language.
    params: parameters with a leading seed axis E.
    batch: held-out couplets. Their second lines are not read.
    chosen: the places to edit, P of them; all of `places(task)` by default.
    sampling: how a token is drawn.
    key: a PRNG key, consumed. All seeds and edits use the same random numbers.

  Returns:
    Shares of tokens that fit either class, each [E, *K, L, P, G].
  """
  chosen = tuple(chosen or places(task))
  decoder = forward_only(decoder)
  return _written_lines(
    decoder, task, chosen, sampling, maker, params, batch, key
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
@functools.partial(
  jax.vmap, in_axes=(None, None, None, None, None, 0, None, None)
)
def _written_lines(
  decoder: Decoder,
  task: Couplets,
  chosen: tuple[Place, ...],
  sampling: Sampling,
  maker: EditMaker,
  params: Params,
  batch: Batch,
  key: jax.Array,
) -> WrittenLines:
  made = maker.edits(decoder, task, params, batch)
  truth, prompts = task.truth(batch), batch.inputs[:, : line2(task)]

  def write(valid: jax.Array, edits: Edits) -> WrittenLines:
    tokens = generate(
      decoder,
      params,
      prompts,
      line_length(task),
      sampling=sampling,
      key=key,
      edits=edits,
    ).tokens
    return fit_shares(tokens, truth.key, made.target, valid, truth.rhymes)

  return sweep(decoder, made, jnp.asarray(masks(task, chosen)), write)


def sweep(
  decoder: Decoder,
  made: StreamEdits,
  masks: jax.Array,
  measure: Callable[[jax.Array, Edits], Any],
) -> Any:
  """Measures one model under every kind of edit, at every layer and place.

  Kind, layer and place are traced, so all cases share one program. The cases
  run one after the other, so memory does not grow with their number.

  Args:
    decoder: the model.
    made: the edits.
    masks: the positions of each place, bool [P, T].
    measure: a function of which couplets count, bool [B], and the edits. It
      returns a tree of arrays.

  Returns:
    The tree; every array has the leading axes [*K, L, P].
  """
  kinds = made.valid.shape[:-1]
  layers = decoder.config.layers
  valid = made.valid.reshape(-1, made.valid.shape[-1])
  sizes = (len(valid), layers, len(masks))
  cases = jnp.unravel_index(jnp.arange(sizes[0] * sizes[1] * sizes[2]), sizes)

  def measure_case(case: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
    kind, layer, place = case
    values = made.values(kind)

    def edit_of(site_layer: int) -> Edit:
      mask = masks[place][None, :, None] & (layer == site_layer)

      def edit(x: jax.Array) -> jax.Array:
        # While it writes, the model reads fewer positions than the batch has.
        read = slice(0, x.shape[1])
        return standard_edits.patch(
          values[site_layer][:, read], lambda _: mask[:, read]
        )(x)

      return edit

    return measure(
      valid[kind],
      {residual_site(decoder.config, at): edit_of(at) for at in range(layers)},
    )

  results = jax.lax.map(measure_case, cases)
  return jax.tree.map(
    lambda x: x.reshape(*kinds, *sizes[1:], *x.shape[1:]), results
  )
