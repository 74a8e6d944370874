"""Can a linear probe read the rhyme class at a place?

A probe may find information that the model never uses. Compare it with the
effect of a swap at the same place. In couplets with an open route and a lookup
key, a probe finds the class at NL, although line 2 reads it from e1. Ma and Rui
(2026), arXiv 2605.07984, report the same at the line break of most language
models.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook.interventions.forward import forward_only
from jaxlook.models import Decoder
from jaxlook.models.decoder import Params
from jaxlook.planning.couplets.places import Place, places
from jaxlook.planning.couplets.stream_edits import residual_streams
from jaxlook.probing import linear
from jaxlook.probing.linear import ClassScores
from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets
from jaxlook.tasks.task import Batch

PROBE, SHUFFLED = KINDS = ("probe", "shuffled")
"""The targets of the probe, in the order of the axis K: classes, and shuffled
classes as a control."""


def measure(
  decoder: Decoder,
  task: Couplets,
  params: Any,
  batch: Batch,
  chosen: Sequence[Place] | None = None,
) -> ClassScores:
  """Fits probes on half of the couplets and scores them on the other half.

  A probe reads the concatenated streams of all positions of its place. At the
  place `none` it reads nothing, so it guesses. For another control, pass
  untrained parameters.

  Args:
    decoder: the model under any variant, with the barrier of the task.
    task: the language.
    params: parameters with a leading seed axis E.
    batch: held-out couplets, all of them RHY, from `dataclasses.replace(task,
      p=1.0)`. There must be many more couplets than features of a probe.
    chosen: where to probe; all of `places(task)` by default.

  Returns:
    Accuracy and loss in nats on the second half, each [E, K, L, P]: by target,
    layer whose input is read, and place. Chance is 1/16 and ln 16.

  Raises:
    ValueError: the batch contains FREE couplets.
  """
  if not np.all(np.asarray(task.truth(batch).rhymes)):
    raise ValueError(
      "the batch contains FREE couplets, which do not rhyme; use RHY ones only"
    )
  chosen = tuple(chosen or places(task))
  return _measure(forward_only(decoder), task, chosen, params, batch)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@functools.partial(jax.vmap, in_axes=(None, None, None, 0, None))
def _measure(
  decoder: Decoder,
  task: Couplets,
  chosen: tuple[Place, ...],
  params: Params,
  batch: Batch,
) -> ClassScores:
  read_LxBxTxD = residual_streams(decoder, params, batch.inputs)
  key = task.truth(batch).key
  half = len(key) // 2
  # Couplets are independent, so the next couplet's class is a random class.
  labels_KxB = jnp.stack([key, jnp.roll(key, 1)])

  def probe(features: jax.Array, labels: jax.Array) -> ClassScores:
    rows = features.reshape(len(labels), -1)
    return linear.logistic(
      features=rows[:half],
      labels=labels[:half],
      held_out_features=rows[half:],
      held_out_labels=labels[half:],
      classes=language.CLASSES,
    )

  # Places with equally many positions are probed in one call, all layers at
  # once.
  probe_layers = jax.vmap(
    jax.vmap(probe, in_axes=(None, 0)), in_axes=(0, None), out_axes=1
  )
  found: dict[str, ClassScores] = {}
  for count in sorted({len(place.positions) for place in chosen}):
    same_count = [place for place in chosen if len(place.positions) == count]
    where = np.array([place.positions for place in same_count], int)
    features_PxLxBxSxD = jnp.stack([read_LxBxTxD[:, :, at] for at in where])
    scores = jax.lax.map(
      lambda x: probe_layers(x, labels_KxB), features_PxLxBxSxD
    )
    for index, place in enumerate(same_count):
      found[place.name] = jax.tree.map(lambda x, i=index: x[i], scores)
  return jax.tree.map(
    lambda *x: jnp.stack(x, axis=-1), *(found[place.name] for place in chosen)
  )
