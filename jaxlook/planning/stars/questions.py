"""Pairs of path-star questions whose answers take different arms.

A prompt names a goal, and its answer is the path of the goal's arm. Each prompt
comes with donors (prompts of the same shape whose answer takes another arm) and
with places at which its residual stream can be swapped with that of a donor:

- `goal`: the donor has the same graph and asks for the leaf of the next arm.
  The streams of the two prompts are equal before the goal.
- `leaves`: the donor asks the same question, but the leaves of the two arms are
  exchanged in the edges of the graph. So the same goal is at the end of the
  other arm. This needs a graph in the context.
- `self`: the donor is the prompt itself, so the answer cannot move.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlook.tasks.path_star import PathStar
from jaxlook.tasks.path_star_weights import PathStarWeights, Split

SELF = "self: everywhere"
GOAL = "goal: at the goal"
BEFORE = "goal: before the goal"
EVERYWHERE = "goal: everywhere"
ANSWER = "goal: at the answer mark"
IN_WEIGHTS = (SELF, BEFORE, GOAL)
IN_CONTEXT = (
  *(SELF, BEFORE, GOAL, ANSWER, EVERYWHERE),
  "leaves: edges of the goal's arm",
  "leaves: edges of the other arm",
  "leaves: edges of both",
  "leaves: at the goal",
  "leaves: at the answer mark",
)
"""Names of places, in the order of the axis K of `Questions`."""


class Questions(NamedTuple):
  """Prompts, true answers, and the donors and masks of swaps by place.

  Attributes:
    prompts: tokens up to the position that predicts the first step, int32
      [B, P].
    answers: true paths in the order of the answer, int32 [B, l - 1].
    first: the node after the start on the path to the goal, int32 [B].
    arm: the number of that node among the children of the start, in the order
      of the prompt; if the graph is in the weights, the number of the arm.
      int32 [B].
    donors: by place, the prompts of the donors, int32 [K, B, P].
    donor_answers: the answers of the donors, int32 [K, B, l - 1].
    masks: by place, the positions to swap, bool [K, B, P].
  """

  prompts: jax.Array
  answers: jax.Array
  first: jax.Array
  arm: jax.Array
  donors: jax.Array
  donor_answers: jax.Array
  masks: jax.Array


def context_questions(task: PathStar, key: jax.Array, count: int) -> Questions:
  """Draws graphs and one question for each, with the places `IN_CONTEXT`.

  Args:
    task: the graphs; its `teacher` has no effect.
    key: a PRNG key, consumed.
    count: number of graphs B.

  Returns:
    The questions. The other arm is the one whose first edge comes next in the
    prompt, cyclically.
  """
  size = task.prompt_length
  batch = dataclasses.replace(task, teacher="forced").batch(key, count)
  prompts, answers = batch.inputs[:, :size], batch.targets[:, size - 1 :]
  edges = task.degree * task.steps
  before, after = prompts[:, 0 : 3 * edges : 3], prompts[:, 1 : 3 * edges : 3]
  path = _turned(task, answers)
  start, goal = prompts[:, size - 3], prompts[:, size - 2]
  child = before == start[:, None]
  own = after == path[:, :1]
  arm = jnp.sum(child & (jnp.cumsum(own, axis=1) == 0), axis=1)
  # The other arm starts at the next child in the prompt, cyclically.
  behind = jnp.arange(edges)[None] - jnp.argmax(own, axis=1)[:, None] - 1
  steps_to_child = jnp.where(child, behind % edges, edges)
  node = _pick(after, jnp.argmin(steps_to_child, axis=1))
  other = [node]
  for _ in range(task.steps - 1):
    node = _pick(after, jnp.argmax(before == node[:, None], axis=1))
    other.append(node)
  other = jnp.stack(other, axis=1)
  other_goal = prompts.at[:, size - 2].set(node)
  graph, leaf = prompts[:, : 3 * edges], node[:, None]
  exchanged = jnp.where(graph == goal[:, None], leaf, graph)
  exchanged = jnp.where(graph == leaf, goal[:, None], exchanged)
  exchanged = prompts.at[:, : 3 * edges].set(exchanged)
  at = jnp.broadcast_to(jnp.arange(size)[None], prompts.shape)
  own_arm, other_arm = (_edges_of(after, arm, size) for arm in (path, other))
  of_goal = (at >= 0, at < size - 2, at == size - 2, at == size - 1, at >= 0)
  of_leaves = (
    own_arm,
    other_arm,
    own_arm | other_arm,
    at == size - 2,
    at == size - 1,
  )
  exchanged_answers = _turned(
    task, jnp.concatenate([other[:, :-1], goal[:, None]], axis=1)
  )
  return Questions(
    prompts=prompts,
    answers=answers,
    first=path[:, 0],
    arm=arm,
    donors=jnp.stack([prompts, *[other_goal] * 4, *[exchanged] * 5]),
    donor_answers=jnp.stack(
      [answers, *[_turned(task, other)] * 4, *[exchanged_answers] * 5]
    ),
    masks=jnp.stack([*of_goal, *of_leaves]),
  )


def weight_questions(task: PathStarWeights, split: Split) -> Questions:
  """Asks for every path of a split once, with the places `IN_WEIGHTS`.

  Args:
    task: the graph; its `split` and `teacher` have no effect.
    split: the split whose leaves are the goals.

  Returns:
    The questions. The other arm is the next one of the split, cyclically.
  """
  _, arms = task.graph()
  trained = task.degree - task.test_leaves
  ids = jnp.arange(task.degree)
  ids = ids[:trained] if split == "train" else ids[trained:]
  path = jnp.asarray(arms)[ids]
  mark = jnp.full((len(path), 1), task.marks[0], jnp.int32)
  prompts = jnp.concatenate([mark, path[:, -1:]], axis=1)
  answers = _turned(task, path)
  donors, donor_answers = (jnp.roll(x, -1, axis=0) for x in (prompts, answers))
  at = jnp.broadcast_to(jnp.arange(2)[None], prompts.shape)
  return Questions(
    prompts=prompts,
    answers=answers,
    first=path[:, 0],
    arm=ids,
    donors=jnp.stack([prompts, donors, donors]),
    donor_answers=jnp.stack([answers, donor_answers, donor_answers]),
    masks=jnp.stack([at >= 0, at == 0, at == 1]),
  )


def _turned(task: PathStar | PathStarWeights, path: jax.Array) -> jax.Array:
  """Changes the order of the path into that of the answer, or back."""
  return path if task.direction == "forward" else path[:, ::-1]


def _pick(nodes: jax.Array, at: jax.Array) -> jax.Array:
  return jnp.take_along_axis(nodes, at[:, None], axis=1)[:, 0]


def _edges_of(after: jax.Array, path: jax.Array, size: int) -> jax.Array:
  """The positions of a path's edges and the marks after them, [B, size]."""
  edge = (after[:, :, None] == path[:, None]).any(axis=2)
  return jnp.pad(
    jnp.repeat(edge, 3, axis=1), ((0, 0), (0, size - 3 * edge.shape[1]))
  )
