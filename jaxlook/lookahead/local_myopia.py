"""The local myopia bonus: what a model gains if it serves the present only.

A vanilla model is trained and frozen. A local myopic model of the same shape
reads the vanilla model's keys and values as its context (`teacher`), so all
that it computes can serve the present. The bonus is loss(vanilla) -
loss(local); the gap is loss(myopic) - loss(vanilla).

Crossing weights with contexts separates two causes: the weights that predict at
a position, and the model that made the context that they read.

Source: Wu, Morris and Levine (2024), arXiv 2404.00859, section 3, "local
myopia bonus".
"""

import jax
import numpy as np

from jaxlook.models import Decoder
from jaxlook.tasks.task import Task
from jaxlook.training import TrainConfig, evaluate
from jaxlook.training.step import Teacher

VANILLA = "vanilla"
LOCAL = "local"


def cross_contexts(
  task: Task,
  config: TrainConfig,
  vanilla: Teacher,
  local: Teacher,
  *,
  key: jax.Array,
  fed: np.ndarray | None = None,
) -> dict[tuple[str, str], np.ndarray]:
  """Evaluates both models' weights on both models' contexts.

  The vanilla context is what the vanilla model computes on its own. The local
  context is what the local model computes while it reads the vanilla context,
  as in training. One case differs: for local weights on the local context, the
  local model runs alone under ordinary attention.

  Args:
    task: makes the batches and their loss.
    config: gives the size and number of batches.
    vanilla: the vanilla model, under `causal`; parameters with a leading E.
    local: the local model, under a `teacher` variant with `vanilla` as its
      teacher.
    key: a PRNG key, consumed; draws the batches of generated tasks.
    fed: held-out data from the host; None for generated tasks.

  Returns:
    By (weights, context), the mean loss [E] in the unit of the task.

  Raises:
    ValueError: the local model has no teacher.
  """
  if local.teacher is None:
    raise ValueError("the local model needs the vanilla model as its teacher")
  alone = local.decoder.clone(attention="causal")

  def loss(decoder: Decoder, params, teacher: Teacher | None) -> np.ndarray:
    losses_ExT = evaluate(
      decoder, task, config, params, key=key, fed=fed, teacher=teacher
    )
    return losses_ExT.mean(axis=1)

  return {
    (VANILLA, VANILLA): loss(vanilla.decoder, vanilla.params, None),
    (LOCAL, VANILLA): loss(local.decoder, local.params, vanilla),
    (VANILLA, LOCAL): loss(local.decoder, vanilla.params, local),
    (LOCAL, LOCAL): loss(alone, local.params, None),
  }
