"""What the paths of each order are worth: losses with some terms left out.

Source: Elhage et al. (2021), section "Two-layer attention-only transformers",
"Term importance analysis". Patterns and LayerNorm's divisions stay those of the
whole model throughout; see `paths`.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jaxlook.circuits import paths
from jaxlook.models import Decoder
from jaxlook.tasks.task import Batch, Task


class TermLosses(NamedTuple):
  """Mean losses on a batch, in the task's unit.

  Attributes:
    orders: with all paths through at most n heads, [L + 1]; the last is the
      model's own.
    own: with all paths through fewer than n heads and those through n heads
      that never leave their position, [L], n = 1..L.
    alone: with no path but the direct one, biases, and the single heads of one
      layer, [L].
    without: with all paths through at most one head, but for the single heads
      of one layer, [L].
  """

  orders: jax.Array
  own: jax.Array
  alone: jax.Array
  without: jax.Array

  @property
  def marginal(self) -> jax.Array:
    """How far the paths through exactly n heads lower the loss, [..., L].

    On top of all shorter paths; n = 1..L.
    """
    return self.orders[..., :-1] - self.orders[..., 1:]

  @property
  def marginal_own(self) -> jax.Array:
    """The part of `marginal` of paths that never leave their position."""
    return self.orders[..., :-1] - self.own

  @property
  def marginal_before(self) -> jax.Array:
    """The rest of `marginal`: what paths bring from earlier positions."""
    return self.own - self.orders[..., 1:]

  @property
  def layer_alone(self) -> jax.Array:
    """How far a layer's single heads lower the direct path's loss, [..., L]."""
    return self.orders[..., :1] - self.alone

  @property
  def layer_on_top(self) -> jax.Array:
    """The same on top of the single heads of all other layers, [..., L]."""
    return self.without - self.orders[..., 1:2]


def term_losses(
  decoder: Decoder, task: Task, params: Any, batch: Batch, *, chunk: int = 16
) -> TermLosses:
  """Measures what a model loses without some of its paths.

  Args:
    decoder: an attention-only model over tokens.
    task: gives the loss.
    params: its parameters, of one seed.
    batch: the sequences.
    chunk: sequences at a time, which bounds memory: a few L B T V arrays.

  Returns:
    The losses, means over sequences and positions.

  Raises:
    ValueError: as `paths.freeze`.
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

  found = jax.lax.map(one, batch, batch_size=chunk)
  return cast(TermLosses, jax.tree.map(lambda x: jnp.mean(x, axis=0), found))
