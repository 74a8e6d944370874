"""The settings of path-star graphs, and the measures of models in each.

With the graph in the context there are four settings: `forward` and `reversed`
read the true path as input; `teacherless` and `masked` hide it and write
forward. With the graph in the weights there are two, both forward: `weights`
and `weights teacherless`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from jaxlook.errors import SettingError
from jaxlook.models import Decoder
from jaxlook.planning.stars import questions
from jaxlook.planning.stars.answers import AnswerResults, accuracy, measure
from jaxlook.planning.stars.questions import context_questions, weight_questions
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
"""Settings that also train gradient cuts; the others train causal attention
only."""

FORCED_GRAPHS = 16_384
"""Number of new graphs for accuracies given the true earlier steps.

With this number, the 95% interval over three seeds of a model that guesses
between two arms is about 0.5 +- 0.01. So claims about chance can be decided.
"""

_BATCH = 4096

StarTask = PathStar | PathStarWeights


@dataclasses.dataclass(frozen=True)
class Graphs:
  """The shapes of graphs.

  Attributes:
    degree: arms of a graph in the context.
    path_length: nodes of a path in the context, including start and goal.
    node_count: number of labels from which its nodes are drawn.
    arms: arms of the graph in the weights.
    arm_length: nodes of a path in the weights.
    edge_share: probability that a training item for the weights is an edge.
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
      SettingError: the setting is unknown; or see the task.
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
  """Results of one variant's models in one setting.

  Attributes:
    answers: results on questions that are not in the training data.
    forced: share of right steps and, last, of right paths, given the true
      earlier steps, [E, l]. In context it uses `FORCED_GRAPHS` other graphs.
    untrained: `answers` before training.
    seen: share of right steps on the training paths in the weights, given the
      true earlier steps, [E, l - 1]; None in context, where every graph is new.
    first: index of the answer's step that leaves the start: 0, or -1 if
      reversed.
    clever_hans: the loss of the Clever Hans predictor, which only follows
      edges, nats, [l - 1].
    chance: the accuracy of guessing an arm.
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
    task: the task that the models were trained on.
    decoder: the model under its variant.
    params: parameters after training, with a leading seed axis E.
    untrained: parameters before training, with a leading seed axis E.
    key: a PRNG key, consumed; draws graphs in context.
    count: number of graphs to test on; probes are fitted on as many more.
    alive: for each seed, False if it diverged; by default no seed diverged.

  Returns:
    The results, on the host.

  Raises:
    ValueError: see `answers.measure`.
  """
  fit_key, test_key, forced_key, shuffle_key = jax.random.split(key, 4)
  dummy = task.dummy if task.teacher == "teacherless" else None
  if isinstance(task, PathStar):
    fit = context_questions(task, fit_key, count)
    test = context_questions(task, test_key, count)
    classes = {"labels": task.node_count, "arms": task.degree}
    places = questions.IN_CONTEXT
  else:
    fit, test = (weight_questions(task, split) for split in ("train", "test"))
    classes = {}
    places = questions.IN_WEIGHTS

  def answers_of(params: Any) -> AnswerResults:
    return measure(
      decoder,
      params,
      fit,
      test,
      shuffle_key,
      dummy=dummy,
      alive=alive,
      **classes,
    )

  answers = answers_of(params)
  if isinstance(task, PathStar):
    seen = None
    forced = by_seed(
      _forced_accuracy(task, decoder, params, forced_key, dummy), alive
    )
  else:
    seen = by_seed(accuracy(decoder, params, fit, dummy)[:, :-1], alive)
    # The test questions already include every held-out leaf.
    forced = np.concatenate([answers.correct, answers.paths[:, None]], axis=1)
  return GraphResults(
    answers=answers,
    forced=forced,
    untrained=answers_of(untrained),
    seen=seen,
    first=0 if task.direction == "forward" else -1,
    clever_hans=clever_hans(
      task.degree,
      task.steps,
      task.direction,
      "teacherless" if dummy is not None else "forced",
    ),
    chance=task.first_step_chance,
    places=places,
  )


_draw_questions = jax.jit(context_questions, static_argnums=(0, 2))


def _forced_accuracy(
  task: PathStar,
  decoder: Decoder,
  params: Any,
  key: jax.Array,
  dummy: int | None,
) -> np.ndarray:
  """`accuracy` on `FORCED_GRAPHS` graphs, in several batches, [E, l]."""
  keys = jax.random.split(key, FORCED_GRAPHS // _BATCH)
  batches = [
    accuracy(decoder, params, _draw_questions(task, batch_key, _BATCH), dummy)
    for batch_key in keys
  ]
  return np.mean(batches, axis=0)
