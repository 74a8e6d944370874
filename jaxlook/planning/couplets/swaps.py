"""Swaps the state at a place between couplets: is the plan stored there?

A swap replaces the residual stream of a couplet with that of a donor couplet,
at one place, at the input of one layer. `stream_edits` then measures what the
model expects of line 2 (`answers`) and what it writes (`writing`), at every
layer and place, and at the place `none`, where nothing is changed. The axis K
of its arrays is the kind of donor (`KINDS`).

Controls: donors of the same class, FREE lines, and swaps at the fillers of line
1 should give the same as the place `none`. A shuffled donor whose whole state
takes effect should give a `left` of 15/16, which is chance.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from jaxlook.models import Decoder
from jaxlook.models.decoder import Params
from jaxlook.planning.couplets.stream_edits import StreamEdits, residual_streams
from jaxlook.tasks.couplets import Couplets, Truth
from jaxlook.tasks.task import Batch

OTHER, SAME, SHUFFLED = KINDS = ("other class", "same class", "shuffled donor")
"""The kinds of donors, in the order of the axis K.

  other class     a donor of another class. Its class is the target class r' of
                  the couplet in all of its swaps
  same class      a donor of the couplet's own class: nothing should move
  shuffled donor  a donor of any class, chosen without regard to r'. If its
                  whole state takes effect, `left` is at chance, 15/16
"""


@flax.struct.dataclass
class Swaps:
  """Replaces the stream of every couplet with that of its donors, by kind."""

  def edits(
    self, decoder: Decoder, task: Couplets, params: Params, batch: Batch
  ) -> StreamEdits:
    """The edits of a batch, for each of `KINDS`.

    Args:
      decoder: the model.
      task: the language.
      params: parameters of one seed.
      batch: couplets; their donors are among them.

    Returns:
      Edits with one axis of kinds.
    """
    chosen = donors(task.truth(batch))
    own_LxBxTxD = residual_streams(decoder, params, batch.inputs)
    return StreamEdits(
      values=lambda kind: jnp.take(own_LxBxTxD, chosen.donor[kind], axis=1),
      valid=chosen.valid,
      target=chosen.target,
    )


class Donors(NamedTuple):
  """Donors for every couplet of a batch.

  Attributes:
    donor: index in the batch of each kind's donor, int [K, B].
    valid: whether the couplet has such a donor and a target class, bool [K, B].
    target: the target class r', int [B].
  """

  donor: jax.Array
  valid: jax.Array
  target: jax.Array


def donors(truth: Truth) -> Donors:
  """Chooses donors: the next suitable couplet of the batch, cyclically.

  Couplets are independent, so the next one can serve as a random one, and no
  PRNG key is needed. The shuffled donor is the next couplet of the same genre
  after the donor of another class.

  Args:
    truth: the true properties of the batch.

  Returns:
    Donors of all kinds.
  """
  genre, key = truth.rhymes, truth.key
  same_genre = genre[:, None] == genre[None]
  same_class = key[:, None] == key[None]
  index = jnp.arange(len(key))
  not_itself = index[:, None] != index[None]
  other, has_other = _next(index, same_genre & ~same_class)
  same, has_same = _next(index, same_genre & same_class & not_itself)
  shuffled, has_shuffled = _next(other, same_genre & not_itself)
  valid = jnp.stack([has_other, has_same, has_shuffled]) & has_other[None]
  return Donors(jnp.stack([other, same, shuffled]), valid, key[other])


def _next(after: jax.Array, allowed: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The first allowed index after `after` [B], for each row of `allowed`.

  Returns:
    The indices [B], and whether a row of `allowed` [B, B] has any index.
  """
  size = len(after)
  steps = (jnp.arange(size)[None] - after[:, None] - 1) % size
  steps = jnp.where(allowed, steps, size)
  return jnp.argmin(steps, axis=1), jnp.min(steps, axis=1) < size
