"""The settings of path-star graphs, and the examination of models in each.

In the context: `forward` and `reversed`, with the true path as input, and
`teacherless` and `masked` forward. In the weights, forward: `weights` and
`weights teacherless`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from jaxlook.errors import SettingError
from jaxlook.models import Decoder
from jaxlook.planning.stars import questions as stars
from jaxlook.planning.stars.answers import AnswerResults, accuracy, measure
from jaxlook.stats.claims import by_seed
from jaxlook.tasks.path_star import (
  AnswerInputs,
  Direction,
  PathStar,
  clever_hans,
)
from jaxlook.tasks.path_star_weights import PathStarWeights

FORWARD = "forward"
REVERSED = "reversed"
TEACHERLESS = "teacherless"
MASKED = "masked"
WEIGHTS = "weights"
WEIGHTS_TEACHERLESS = "weights teacherless"
IN_CONTEXT = (FORWARD, REVERSED, TEACHERLESS, MASKED)
IN_WEIGHTS = (WEIGHTS, WEIGHTS_TEACHERLESS)
SETTINGS = (*IN_CONTEXT, *IN_WEIGHTS)

COMPARED = (FORWARD, REVERSED, WEIGHTS)
"""Where variants that cut gradient are trained; elsewhere causal alone."""

FORCED_GRAPHS = 16_384
"""Fresh graphs for accuracies given the true steps before.

With them the 95% interval of a guesser among two arms reaches about 0.01 to
both sides of a half over three seeds, so that claims of chance can be decided.
"""

_AT_ONCE = 4096

StarTask = PathStar | PathStarWeights


@dataclasses.dataclass(frozen=True)
class Graphs:
  """The shapes of graphs.

  Attributes:
    degree: arms of a graph in the context.
    path_length: nodes of its paths, start and goal among them.
    node_count: labels that its nodes are drawn from.
    arms: arms of the graph in the weights.
    arm_length: nodes of its paths.
    edge_share: probability that an item of its training is an edge.
  """

  degree: int
  path_length: int
  node_count: int
  arms: int
  arm_length: int
  edge_share: float = 0.75

  def task(self, setting: str) -> StarTask:
    """The task of one of `SETTINGS`.

    Raises:
      SettingError: there is no such setting, or as the task.
    """
    if setting not in SETTINGS:
      raise SettingError(
        "setting", f"must be one of {', '.join(SETTINGS)}, not {setting!r}"
      )
    hides = setting.removeprefix("weights ")
    teacher = hides if hides in (TEACHERLESS, MASKED) else "forced"
    if setting in IN_WEIGHTS:
      return PathStarWeights(
        self.arms,
        self.arm_length,
        edge_share=self.edge_share,
        teacher=cast(AnswerInputs, teacher),
      )
    return PathStar(
      self.degree,
      self.path_length,
      self.node_count,
      direction=cast(Direction, REVERSED if setting == REVERSED else FORWARD),
      teacher=cast(AnswerInputs, teacher),
    )


class GraphResults(NamedTuple):
  """What a variant's models of one setting do.

  Attributes:
    answers: on questions that no training saw.
    forced: share of right steps and, last, of paths given the true steps
      before, [E, l]; in context on `FORCED_GRAPHS` other graphs.
    untrained: `answers` before training.
    seen: share of right steps on the paths of training, in weights, given the
      true steps before, [E, l - 1]; None in context, where every graph is new.
    first: which step of the answer leaves the start: 0, or -1 if reversed.
    clever_hans: the loss of who follows edges alone, nats, [l - 1].
    chance: the accuracy of who guesses an arm.
    places: names of the places of `moved`.
  """

  answers: AnswerResults
  forced: np.ndarray
  untrained: AnswerResults
  seen: np.ndarray | None
  first: int
  clever_hans: np.ndarray
  chance: float
  places: tuple[str, ...]


def measure_setting(
  task: StarTask,
  decoder: Decoder,
  params: Any,
  untrained: Any,
  key: jax.Array,
  count: int,
  alive: Sequence[bool] | None = None,
) -> GraphResults:
  """Asks trained and untrained models the same questions.

  Args:
    task: what they were trained on.
    decoder: the model under its variant.
    params: after training, with a leading seed axis E.
    untrained: before.
    key: draws graphs in context; consumed.
    count: of graphs, as many again to fit probes to.
    alive: by seed, whether it did not diverge; all by default.

  Returns:
    What was found.

  Raises:
    ValueError: as `star_answers.measure`.
  """
  key_fit, key_ask, key_forced, key = jax.random.split(key, 4)
  dummy = task.dummy if task.teacher == "teacherless" else None
  seen = None
  if isinstance(task, PathStar):
    fit = stars.context_questions(task, key_fit, count)
    asked = stars.context_questions(task, key_ask, count)
    classes = {"labels": task.node_count, "arms": task.degree}
  else:
    fit, asked = (
      stars.weight_questions(task, split) for split in ("train", "test")
    )
    classes = {}

  def measured(params):
    return measure(
      decoder, params, fit, asked, key, dummy=dummy, alive=alive, **classes
    )

  answers = measured(params)
  if isinstance(task, PathStarWeights):
    seen = by_seed(accuracy(decoder, params, fit, dummy)[:, :-1], alive)
    # All of the held-out leaves are asked for already.
    forced = np.concatenate([answers.correct, answers.paths[:, None]], axis=1)
  else:
    forced = by_seed(_forced(task, decoder, params, key_forced, dummy), alive)
  return GraphResults(
    answers=answers,
    forced=forced,
    untrained=measured(untrained),
    seen=seen,
    first=0 if task.direction == "forward" else -1,
    clever_hans=clever_hans(
      task.degree,
      task.steps,
      task.direction,
      "teacherless" if dummy is not None else "forced",
    ),
    chance=task.first_step_chance,
    places=stars.IN_CONTEXT if isinstance(task, PathStar) else stars.IN_WEIGHTS,
  )


_draw_questions = jax.jit(stars.context_questions, static_argnums=(0, 2))


def _forced(
  task: PathStar, decoder: Decoder, params: Any, key: jax.Array, dummy
) -> np.ndarray:
  """`accuracy` on `FORCED_GRAPHS` graphs, a part of them at a time, [E, l]."""
  keys = jax.random.split(key, FORCED_GRAPHS // _AT_ONCE)
  parts = [
    accuracy(decoder, params, _draw_questions(task, each, _AT_ONCE), dummy)
    for each in keys
  ]
  return np.mean(parts, axis=0)
