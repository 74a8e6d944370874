"""Is the class of the rhyme there to be read, linearly, at a place?

A probe may find what the model never uses: what it says stands beside what a
swap at the same place does. In couplets with an open route and a lookup key the
class can be read at NL, while line 2 takes it from e1; that is what Ma and Rui
(2026), arXiv 2605.07984, find at the line break of most models of text.
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
from jaxlook.planning.couplets.stream_edits import streams
from jaxlook.probing import linear
from jaxlook.probing.linear import ClassScores
from jaxlook.tasks import couplets_language as language
from jaxlook.tasks.couplets import Couplets
from jaxlook.tasks.task import Batch

PROBE, SHUFFLED = KINDS = ("probe", "shuffled")
"""What is probed for, in the order of the axis K: classes, shuffled classes."""


def measure(
  decoder: Decoder,
  task: Couplets,
  params: Any,
  batch: Batch,
  chosen: Sequence[Place] | None = None,
) -> ClassScores:
  """Fits probes to half of the couplets and scores them on the other half.

  A probe reads the streams of all positions of its place, laid end to end. At
  the place `none` it reads nothing, and guesses; give untrained parameters for
  another control.

  Args:
    decoder: the model under any variant, with the barrier of the task.
    task: the arm.
    params: parameters with a leading seed axis E.
    batch: held-out couplets, all RHY: those of `dataclasses.replace(task,
      p=1.0)`. Many more than the numbers that a probe reads.
    chosen: where to probe; all of `places(task)` by default.

  Returns:
    Accuracy and nats on the second half, each [E, K, L, P]: by what is probed
    for, layer that the stream enters, and place. Chance is 1/16 and ln 16.

  Raises:
    ValueError: there are FREE couplets in the batch.
  """
  if not np.all(np.asarray(task.truth(batch).rhymes)):
    raise ValueError("the class of FREE couplets is not their rhyme: give RHY")
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
  read_LxBxTxD = streams(decoder, params, batch.inputs)
  key = task.truth(batch).key
  half = len(key) // 2
  # Couplets are independent, so those of the next one are shuffled classes.
  labels_KxB = jnp.stack([key, jnp.roll(key, 1)])

  def probed(features: jax.Array, labels: jax.Array) -> ClassScores:
    rows = features.reshape(len(labels), -1)
    return linear.logistic(
      *(rows[:half], labels[:half], rows[half:], labels[half:]),
      classes=language.CLASSES,
    )

  # Places of equally many positions are probed in one call, layer by layer.
  probe = jax.vmap(
    jax.vmap(probed, in_axes=(None, 0)), in_axes=(0, None), out_axes=1
  )
  found: dict[str, ClassScores] = {}
  for count in sorted({len(place.positions) for place in chosen}):
    alike = [place for place in chosen if len(place.positions) == count]
    where = np.array([place.positions for place in alike], int)
    features_PxLxBxSxD = jnp.stack([read_LxBxTxD[:, :, at] for at in where])
    scores = jax.lax.map(lambda x: probe(x, labels_KxB), features_PxLxBxSxD)
    for index, place in enumerate(alike):
      found[place.name] = jax.tree.map(lambda x, i=index: x[i], scores)
  return jax.tree.map(
    lambda *x: jnp.stack(x, axis=-1), *(found[place.name] for place in chosen)
  )
