"""Swaps the state at a place between couplets: is the plan stored there?

At one place, where it enters one layer, a couplet's residual stream becomes
that of a donor (`donors`). Measured is what the model then expects of line 2
(`answers`), and what it writes (`writing`), at every layer and place, also
where nothing is changed. All arrays have the axes [E, K, L, P, G]: seed, kind
of donor (`donors.KINDS`), layer 0 .. L - 1 that the stream enters, place
(`places.places`) and genre (RHY, FREE).

Controls: donors of the same class, FREE lines, and fillers of line 1 should
read what the place `none` does; and a state that moves in full, of a shuffled
donor, should read a `left` of 15/16, as chance has it.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

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
from jaxlook.planning.couplets.writing import WrittenLines
from jaxlook.tasks.couplets import Couplets, Truth
from jaxlook.tasks.task import Batch

OTHER, SAME, SHUFFLED = KINDS = ("other class", "same class", "shuffled donor")
"""The kinds of donors, in the order of the axis K.

  other class     of another class r', the one meant in all of a couplet's pairs
  same class      of the couplet's own class: nothing should move
  shuffled donor  of any class, drawn without regard to r': where a state moves
                  in full it is no nearer to r' than by chance, `left` 15/16
"""


class Donors(NamedTuple):
  """Donors for every couplet of a batch.

  Attributes:
    donor: place in the batch of each kind's donor, int [K, B].
    valid: whether there is one and a class r' is meant, bool [K, B].
    target: the class r' that is meant, int [B].
  """

  donor: jax.Array
  valid: jax.Array
  target: jax.Array


def donors(truth: Truth) -> Donors:
  """Finds donors: the next couplets that will do, round the batch.

  Couplets are drawn independently, so the next is as good as any, and no key
  is needed. A shuffled donor is the next one of the genre after the donor of
  another class.

  Args:
    truth: of the batch.

  Returns:
    Donors of all kinds.
  """
  genre, key = truth.rhymes, truth.key
  alike = genre[:, None] == genre[None]
  same = key[:, None] == key[None]
  number = jnp.arange(len(key))
  others = number[:, None] != number[None]
  other, has_other = _next(number, alike & ~same)
  twin, has_twin = _next(number, alike & same & others)
  shuffled, has_shuffled = _next(other, alike & others)
  valid = jnp.stack([has_other, has_twin, has_shuffled]) & has_other[None]
  return Donors(jnp.stack([other, twin, shuffled]), valid, key[other])


def _next(after: jax.Array, allowed: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The first allowed of each row [B, B] after a place [B], and if there is."""
  size = len(after)
  steps = (jnp.arange(size)[None] - after[:, None] - 1) % size
  steps = jnp.where(allowed, steps, size)
  return jnp.argmin(steps, axis=1), jnp.min(steps, axis=1) < size


def measure(
  decoder: Decoder,
  task: Couplets,
  params: Any,
  batch: Batch,
  chosen: Sequence[Place] | None = None,
) -> LineParts[Effect]:
  """What models expect of line 2 after swaps.

  Args:
    decoder: the model under any variant, with the barrier of the task.
    task: the arm.
    params: parameters with a leading seed axis E.
    batch: held-out couplets.
    chosen: where to swap; all of `places(task)` by default.

  Returns:
    An `answers.Effect` of topic, article and ending, each [E, K, L, P, G].
  """
  chosen = tuple(chosen or places(task))
  return _measure(forward_only(decoder), task, chosen, params, batch)


def write(
  decoder: Decoder,
  task: Couplets,
  params: Any,
  batch: Batch,
  chosen: Sequence[Place] | None = None,
  *,
  sampling: Sampling = GREEDY,
  key: jax.Array,
) -> WrittenLines:
  """What models write as line 2 after swaps.

  Args:
    decoder: as of `measure`.
    task: the arm.
    params: as of `measure`.
    batch: held-out couplets; their second lines are not read.
    chosen: as of `measure`.
    sampling: how a token is drawn.
    key: a PRNG key, consumed; all seeds and swaps draw with the same numbers.

  Returns:
    Shares of tokens that fit either class, each [E, K, L, P, G].
  """
  chosen = tuple(chosen or places(task))
  decoder = forward_only(decoder)
  return _write(decoder, task, chosen, sampling, params, batch, key)


# Compiled once for all variants of one forward pass.
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@functools.partial(jax.vmap, in_axes=(None, None, None, 0, None))
def _measure(
  decoder: Decoder,
  task: Couplets,
  chosen: tuple[Place, ...],
  params: Params,
  batch: Batch,
) -> LineParts[Effect]:
  swaps = swapped(decoder, task, params, batch)
  return expectations(decoder, task, params, batch, swaps, chosen)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
@functools.partial(jax.vmap, in_axes=(None, None, None, None, 0, None, None))
def _write(
  decoder: Decoder,
  task: Couplets,
  chosen: tuple[Place, ...],
  sampling: Sampling,
  params: Params,
  batch: Batch,
  key: jax.Array,
) -> WrittenLines:
  swaps = swapped(decoder, task, params, batch)
  return writings(decoder, task, params, batch, swaps, chosen, sampling, key)


def swapped(
  decoder: Decoder, task: Couplets, params: Params, batch: Batch
) -> Changes:
  """The changes that give couplets the streams of their donors.

  Args:
    decoder: the model.
    task: the arm.
    params: of one seed.
    batch: couplets.

  Returns:
    A change for each of `donors.KINDS`.
  """
  found = donors(task.truth(batch))
  own_LxBxTxD = streams(decoder, params, batch.inputs)
  return Changes(
    lambda kind: jnp.take(own_LxBxTxD, found.donor[kind], axis=1),
    found.valid,
    found.target,
  )
