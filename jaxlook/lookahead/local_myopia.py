"""The local myopia bonus: what the present gains when nothing is asked for.

A vanilla model is trained and frozen. A local myopic model of the same shape
reads the vanilla model's keys and values as its context (`teacher`), so that
everything it computes may serve the present. The bonus is loss(vanilla) -
loss(local); the gap is loss(myopic) - loss(vanilla).

Crossing weights and contexts tells the two apart: which model's weights answer
at a position, and which model filled the context that they read.

Source: Wu, Morris and Levine (2024), arXiv 2404.00859, section 3, "local
myopia bonus".
"""

import jax
import numpy as np

from jaxlook import stats
from jaxlook.models import Decoder
from jaxlook.stats.myopia_gap import source_of
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

  The vanilla context is what the vanilla model computes by itself. The local
  context is what the local model computes while it reads the vanilla context,
  as it was trained to, except where local weights read it: there the local
  model runs by itself under ordinary attention.

  Args:
    task: makes the batches and their loss.
    config: gives the size and number of batches.
    vanilla: the vanilla model, under `causal`; parameters with a leading E.
    local: the local model, under a `teacher` variant with `vanilla` as its
      teacher.
    key: draws the batches of generated tasks, consumed.
    fed: held-out data from the host; None for generated tasks.

  Returns:
    By (weights, context), mean loss [E] in the task's unit.

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


def claims(
  losses: dict[str, dict[int, float]],
  stop: str,
  unit: str,
  gap_source: str,
  bonus_source: str,
) -> list[stats.Claim]:
  """The bonus and the gap at one stop point, as claims.

  Args:
    losses: the loss by `causal`, `myopic/STOP` and `teacher/STOP`, and seed.
    stop: the stop point.
    unit: of the loss.
    gap_source: of the claim that there is a gap.
    bonus_source: of the claims on the bonus.

  Returns:
    Claims that the gap and the bonus are positive, and that the bonus is
    smaller than the gap; none of them with fewer than two seeds in common.
  """
  vanilla = losses["causal"]
  pairs = {
    "gap": (losses[f"myopic/{stop}"], vanilla, "myopic minus vanilla"),
    "bonus": (vanilla, losses[f"teacher/{stop}"], "vanilla minus local"),
  }
  shared = vanilla.keys() & pairs["gap"][0].keys() & pairs["bonus"][1].keys()
  if len(shared) < 2:
    return []
  parts = {
    name: {seed: high[seed] - low[seed] for seed in shared}
    for name, (high, low, _) in pairs.items()
  }
  tiny = float(np.nextafter(0.0, 1.0))
  found = [
    stats.claim(
      f"{stop}/{name}",
      f"the {name} is positive; the estimate is {pairs[name][2]}, paired by"
      " seed",
      source_of(stop, gap_source if name == "gap" else bonus_source),
      unit,
      stats.compare(pairs[name][0], pairs[name][1]),
      low=tiny,
    )
    for name in parts
  ]
  found.append(
    stats.claim(
      f"{stop}/bonus_below_gap",
      "the bonus is smaller than the gap; the estimate is gap minus bonus,"
      " paired by seed",
      source_of(stop, bonus_source),
      unit,
      stats.compare(parts["gap"], parts["bonus"]),
      low=tiny,
    )
  )
  return found
