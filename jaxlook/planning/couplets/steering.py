"""Steers line 2 by the mean difference between two families of rhymes.

To the residual stream of a RHY couplet of class r is added, at one place where
it enters one layer, strength times (mean over RHY couplets of class r' - that
of class r), position by position; the means are over other couplets than those
that are steered. Beside it a random direction of the same length. FREE lines
are steered, too, by the classes of their keys; r' is that of `donors`. All
arrays have the axes [E, K, A, L, P, G]: those of `swaps`, with K the kind of
direction (`KINDS`), and A the strength.

Source: Maar et al. (2026), arXiv 2601.20164, who steer models of text from one
family of rhymes to another at the end of line 1.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlook.decoding import GREEDY, Sampling
from jaxlook.interventions.forward import forward_only
from jaxlook.models import Decoder
from jaxlook.models.decoder import Params
from jaxlook.planning.couplets.answers import Effect, LineParts
from jaxlook.planning.couplets.places import Place, places
from jaxlook.planning.couplets.stream_edits import (
  Changes,
  expectations,
  streams,
  writings,
)
from jaxlook.planning.couplets.swaps import donors
from jaxlook.planning.couplets.writing import WrittenLines
from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets
from jaxlook.tasks.task import Batch

FAMILIES, RANDOM = KINDS = ("mean difference", "random direction")
"""The kinds of directions, in the order of the axis K."""


def measure(
  decoder: Decoder,
  task: Couplets,
  params: Any,
  batch: Batch,
  reference: Batch,
  strengths: Sequence[float],
  chosen: Sequence[Place] | None = None,
  *,
  key: jax.Array,
) -> LineParts[Effect]:
  """What models expect of line 2 when they are steered.

  Args:
    decoder: the model under any variant, with the barrier of the task.
    task: the arm.
    params: parameters with a leading seed axis E.
    batch: held-out couplets to steer.
    reference: other couplets, for the means; about 20 RHY ones a class or more.
    strengths: what the difference is multiplied by, A of them.
    chosen: where to steer; all of `places(task)` by default.
    key: a PRNG key, consumed, for the random directions.

  Returns:
    An `answers.Effect` of topic, article and ending, each [E, K, A, L, P, G].
  """
  chosen = tuple(chosen or places(task))
  return _measure(
    *(forward_only(decoder), task, chosen),
    *(params, batch, reference, jnp.asarray(strengths), key),
  )


def write(
  decoder: Decoder,
  task: Couplets,
  params: Any,
  batch: Batch,
  reference: Batch,
  strengths: Sequence[float],
  chosen: Sequence[Place] | None = None,
  *,
  sampling: Sampling = GREEDY,
  key: jax.Array,
) -> WrittenLines:
  """What models write as line 2 when they are steered.

  Args:
    decoder: as of `measure`.
    task: the arm.
    params: as of `measure`.
    batch: as of `measure`.
    reference: as of `measure`.
    strengths: as of `measure`.
    chosen: as of `measure`.
    sampling: how a token is drawn.
    key: a PRNG key, consumed, for the random directions and the tokens.

  Returns:
    Shares of tokens that fit either class, each [E, K, A, L, P, G].
  """
  chosen = tuple(chosen or places(task))
  return _write(
    *(forward_only(decoder), task, chosen, sampling),
    *(params, batch, reference, jnp.asarray(strengths), key),
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@functools.partial(jax.vmap, in_axes=(*[None] * 3, 0, *[None] * 4))
def _measure(
  decoder: Decoder,
  task: Couplets,
  chosen: tuple[Place, ...],
  params: Params,
  batch: Batch,
  reference: Batch,
  strengths: jax.Array,
  key: jax.Array,
) -> LineParts[Effect]:
  steered = steering(decoder, task, params, batch, reference, strengths, key)
  found = expectations(decoder, task, params, batch, steered, chosen)
  return _by_kind(found, len(strengths))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
@functools.partial(jax.vmap, in_axes=(*[None] * 4, 0, *[None] * 4))
def _write(
  decoder: Decoder,
  task: Couplets,
  chosen: tuple[Place, ...],
  sampling: Sampling,
  params: Params,
  batch: Batch,
  reference: Batch,
  strengths: jax.Array,
  key: jax.Array,
) -> WrittenLines:
  steer_key, draw_key = jax.random.split(key)
  steered = steering(
    decoder, task, params, batch, reference, strengths, steer_key
  )
  found = writings(
    decoder, task, params, batch, steered, chosen, sampling, draw_key
  )
  return _by_kind(found, len(strengths))


def steering(
  decoder: Decoder,
  task: Couplets,
  params: Params,
  batch: Batch,
  reference: Batch,
  strengths: jax.Array,
  key: jax.Array,
) -> Changes:
  """The changes that steer couplets to the classes of `donors`.

  Args:
    decoder: the model.
    task: the arm.
    params: of one seed.
    batch: couplets to steer.
    reference: couplets for the means. A couplet whose class or r' has no RHY
      couplet among them does not count.
    strengths: float [A].
    key: a PRNG key, consumed.

  Returns:
    Changes of 2 A kinds: all strengths of the mean difference, then all of the
    random direction.
  """
  truth, known = task.truth(batch), task.truth(reference)
  meant = donors(truth)
  own_LxBxTxD = streams(decoder, params, batch.inputs)
  read_LxRxTxD = streams(decoder, params, reference.inputs)
  member_RxC = (
    jax.nn.one_hot(known.key, language.CLASSES) * known.rhymes[:, None]
  )
  size_C = jnp.sum(member_RxC, axis=0)
  share_RxC = member_RxC / jnp.maximum(size_C, 1.0)[None]
  mean_LxCxTxD = jnp.einsum("lrtd,rc->lctd", read_LxRxTxD, share_RxC)
  there = (size_C[truth.key] > 0) & (size_C[meant.target] > 0)
  families = mean_LxCxTxD[:, meant.target] - mean_LxCxTxD[:, truth.key]
  drawn = jax.random.normal(key, families.shape, families.dtype)
  length, drawn_length = (
    jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (families, drawn)
  )
  directions = jnp.stack([families, drawn * length / drawn_length])

  def values(kind: jax.Array) -> jax.Array:
    direction, strength = jnp.divmod(kind, len(strengths))
    return own_LxBxTxD + strengths[strength] * directions[direction]

  valid = jnp.broadcast_to(
    (meant.valid[0] & there)[None], (2 * len(strengths), len(there))
  )
  return Changes(values, valid, meant.target)


def _by_kind(found: Any, strengths: int) -> Any:
  """Splits the first axis into kinds of direction and strengths."""
  return jax.tree.map(
    lambda x: x.reshape(len(KINDS), strengths, *x.shape[1:]), found
  )
