"""How line 1 reaches line 2: the loss when attention to a place is cut.

All attention edges from the queries after the line break to the keys of one
place are cut, in all heads of all layers. The weights of the place become 0,
and the other weights of the row are scaled to sum to 1. If line 2 gets the
class through that place only, a planner's loss rises by at least ln 16 nats per
couplet. It may rise more, because the model may do worse than a predictor
trained without line 1.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.interventions.attention_edges import renormalise_without
from jaxlook.interventions.forward import forward_only, run
from jaxlook.models import Decoder
from jaxlook.models.decoder import Params
from jaxlook.planning.couplets.answers import by_genre
from jaxlook.planning.couplets.places import NONE, Place, line2, masks, places
from jaxlook.tasks.couplets import Couplets
from jaxlook.tasks.task import Batch


def measure(
  decoder: Decoder,
  task: Couplets,
  params: Any,
  batch: Batch,
  chosen: Sequence[Place] | None = None,
) -> jax.Array:
  """The loss of each class of tokens when attention to places is cut.

  The cut removes the edges to the place from every position after NL. A
  position can always read itself.

  Args:
    decoder: the model under any variant, with the barrier of the task.
    task: the language.
    params: parameters with a leading seed axis E.
    batch: held-out couplets.
    chosen: the places to cut off; all of `places(task)` by default.

  Returns:
    Nats per couplet, [E, P, G, C]: by place, genre (RHY, FREE) and class of
    tokens in the order of `task.targets`. NaN for a genre without couplets.
  """
  chosen = tuple(chosen or places(task))
  # One implementation for all runs, so that "no effect" is exactly 0.
  decoder = forward_only(decoder).clone(implementation="reference")
  return _measure(decoder, task, chosen, params, batch)


def lost(
  task: Couplets,
  losses: Any,
  chosen: Sequence[Place] | None = None,
) -> np.ndarray:
  """How far each cut raises the loss of line 2.

  Args:
    task: the language.
    losses: from `measure`, [E, P, G, C].
    chosen: see `measure`; the place `none` must be among them.

  Returns:
    The loss from m1 to e2 minus the loss without a cut, nats per couplet,
    [E, P, G].

  Raises:
    ValueError: the losses without a cut are missing.
  """
  names = [place.name for place in chosen or places(task)]
  if NONE not in names:
    raise ValueError(
      f"chosen must include the place {NONE!r}, not only {', '.join(names)}"
    )
  targets = list(task.targets)
  second = slice(targets.index("m1"), targets.index("e2") + 1)
  total = np.sum(np.asarray(losses)[..., second], axis=-1)
  return total - total[:, [names.index(NONE)]]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@functools.partial(jax.vmap, in_axes=(None, None, None, 0, None))
def _measure(
  decoder: Decoder,
  task: Couplets,
  chosen: tuple[Place, ...],
  params: Params,
  batch: Batch,
) -> jax.Array:
  counted_GxB = by_genre(
    task.truth(batch).rhymes, jnp.ones(len(batch.inputs), bool)
  )
  position = jnp.arange(task.length)
  # The position after NL is the first of line 2: U, or the genre if it is late.
  second = position >= line2(task) - 1
  others = position[:, None] != position[None]
  classes = jnp.asarray(
    [jnp.isin(position, np.asarray(where)) for where in task.targets.values()]
  )

  def losses(place: jax.Array) -> jax.Array:
    cut_TxS = second[:, None] & place[None] & others
    edits = {
      f"block_{layer}/attention/pattern": lambda x: renormalise_without(
        x, cut_TxS
      )
      for layer in range(decoder.config.layers)
    }
    loss_BxT = task.loss(run(decoder, params, batch.inputs, edits), batch)
    by_class_BxC = loss_BxT @ classes.T
    counted = jnp.where(counted_GxB[..., None], by_class_BxC[None], 0.0)
    return counted.sum(axis=1) / counted_GxB.sum(axis=1)[:, None]

  return jax.lax.map(losses, jnp.asarray(masks(task, chosen)))
