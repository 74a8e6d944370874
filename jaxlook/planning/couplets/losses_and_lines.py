"""The losses of a model of couplets and the lines that it writes.

Losses by class of tokens distinguish a planner from an improviser and a blind
reader (`jaxlook.tasks.couplets_oracle`). Written lines are checked: whether
they rhyme, and whether they belong to the language. The beam gain shows what
greedy decoding failed to foresee when it chose the first words.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlook import decoding, models
from jaxlook.interventions.forward import forward_only
from jaxlook.models import Decoder
from jaxlook.planning.couplets import writing
from jaxlook.planning.couplets.places import line2
from jaxlook.tasks.couplets import Couplets
from jaxlook.tasks.task import Batch

BEAMS = 8


class LossesAndLines(NamedTuple):
  """Losses and written lines of models of E seeds on held-out couplets.

  Lines are written for couplets that rhyme, from U on, by greedy decoding.

  Attributes:
    rhyming: mean loss by position over couplets that rhyme, nats, [E, T].
    free: the same over FREE couplets; NaN if there are none.
    rhymes: share of lines whose end word is in the class of line 1, [E].
    leads: share of lines whose first modifier can lead to that class, [E].
    formed: share of lines that belong to the language, [E].
    right: share of lines that belong to the language and rhyme, [E]; this is
      the accuracy on the task.
    drawn: `right` for lines drawn from the model at temperature 1, [E].
    beam_gain: log-probability of the best of 8 beams minus that of greedy
      decoding, nats per line, mean over rhyming couplets, [E].
  """

  rhyming: Any
  free: Any
  rhymes: Any
  leads: Any
  formed: Any
  right: Any
  drawn: Any
  beam_gain: Any


def measure(
  decoder: Decoder, task: Couplets, params: Any, batch: Batch, key: jax.Array
) -> LossesAndLines:
  """Measures the models of one variant.

  Args:
    decoder: the model under the variant.
    task: the language that the model was trained on.
    params: parameters with a leading seed axis E.
    batch: held-out couplets; some must rhyme.
    key: a PRNG key for drawing lines, consumed.

  Returns:
    Arrays on the host, float64.

  Raises:
    ValueError: no couplet rhymes.
  """
  rhymes = np.asarray(jax.jit(task.truth)(batch).rhymes)
  if not rhymes.any():
    raise ValueError("no couplet of the batch rhymes")
  rhyming = jax.tree.map(lambda x: np.asarray(x)[rhymes], batch)
  losses_ExBxT = losses(decoder, task, params, batch)
  free_ExT = np.full(losses_ExBxT.shape[::2], np.nan)
  if not rhymes.all():
    free_ExT = losses_ExBxT[:, ~rhymes].mean(axis=1)
  return LossesAndLines(
    losses_ExBxT[:, rhymes].mean(axis=1),
    free_ExT,
    *(
      np.asarray(x, np.float64)
      for x in _write(forward_only(decoder), task, params, rhyming, key)
    ),
  )


def losses(
  decoder: Decoder, task: Couplets, params: Any, batch: Batch
) -> np.ndarray:
  """The loss of every couplet at every position.

  Args:
    decoder: the model under the variant.
    task: the language that the model was trained on.
    params: parameters with a leading seed axis E.
    batch: held-out couplets.

  Returns:
    Nats, float64 [E, B, T], on the host.
  """
  losses_ExBxT = _losses(forward_only(decoder), task, params, batch)
  return np.asarray(losses_ExBxT, np.float64)


# Compiled once for all variants with the same forward pass.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _losses(
  decoder: Decoder, task: Couplets, params: Any, batch: Batch
) -> jax.Array:
  """Losses of every couplet, [E, B, T]."""
  return jax.vmap(
    lambda params: task.loss(models.apply(decoder, params, batch.inputs), batch)
  )(params)


@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None, 0, None, None))
def _write(
  decoder: Decoder, task: Couplets, params: Any, batch: Batch, key: jax.Array
) -> tuple[jax.Array, ...]:
  """The shares of written lines and the beam gain, means over the batch."""
  steps = writing.line_length(task)
  prompts = batch.inputs[:, : line2(task)]
  wanted = task.truth(batch).key

  def line_shares(tokens: jax.Array) -> tuple[jax.Array, ...]:
    """The shares `rhymes`, `leads`, `formed` and `right`."""
    line = writing.read_line(tokens)
    rhymes, formed = line.end == wanted, writing.well_formed(task, line)
    leads = writing.leads_to(line, wanted)
    return tuple(map(jnp.mean, (rhymes, leads, formed, rhymes & formed)))

  greedy = decoding.generate(decoder, params, prompts, steps)
  drawn = decoding.generate(
    decoder,
    params,
    prompts,
    steps,
    sampling=decoding.Sampling(temperature=1.0),
    key=key,
  )
  beams = decoding.beam_search(decoder, params, prompts, steps, width=BEAMS)
  return (
    *line_shares(greedy.tokens),
    line_shares(drawn.tokens)[-1],
    jnp.mean(decoding.beam_gain(beams, greedy)),
  )


def by_class(task: Couplets, losses: np.ndarray) -> dict[str, np.ndarray]:
  """The loss of each class of tokens, mean over its positions.

  Args:
    task: the language.
    losses: the loss by position, [E, T].

  Returns:
    Losses [E] by class; the names are those of `Couplets.targets`.
  """
  return {
    name: losses[:, list(places)].mean(axis=1)
    for name, places in task.targets.items()
  }


def second_line(task: Couplets, losses: np.ndarray) -> np.ndarray:
  """Sums losses by position [E, T] from m1 to e2; nats per couplet, [E]."""
  start = task.targets["m1"][0]
  return losses[:, start : start + writing.line_length(task)].sum(axis=1)
