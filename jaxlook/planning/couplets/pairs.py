"""Whose state a couplet gets: donors of the same batch.

All donors have the genre of the couplet that gets their state, so that it is
the class that is swapped and not whether to rhyme. On FREE lines the class of
the key is used by nobody: a swap there is a control of its own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.tasks.couplets import Truth

OTHER, SAME, SHUFFLED = KINDS = ("other class", "same class", "shuffled donor")
"""The kinds of donors, in the order of the axis K.

  other class     of another class r', the one meant in all of a couplet's pairs
  same class      of the couplet's own class: nothing should move
  shuffled donor  of any class, drawn without regard to r': where a state moves
                  in full it is no nearer to r' than by chance, `left` 15/16
"""


class Pairs(NamedTuple):
  """Donors for every couplet of a batch.

  Attributes:
    donor: place in the batch of each kind's donor, int [K, B].
    valid: whether there is one and a class r' is meant, bool [K, B].
    target: the class r' that is meant, int [B].
  """

  donor: jax.Array
  valid: jax.Array
  target: jax.Array


def pairs(truth: Truth) -> Pairs:
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
  return Pairs(jnp.stack([other, twin, shuffled]), valid, key[other])


def _next(after: jax.Array, allowed: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The first allowed of each row [B, B] after a place [B], and if there is."""
  size = len(after)
  steps = (jnp.arange(size)[None] - after[:, None] - 1) % size
  steps = jnp.where(allowed, steps, size)
  return jnp.argmin(steps, axis=1), jnp.min(steps, axis=1) < size
