"""Path-star graphs asked about twice: prompts that differ in the plan alone.

A prompt shows or names a goal; its answer is the path of the goal's arm. Beside
each prompt stand donors, prompts of the same shape whose answer takes another
arm, and places at which a donor's residual stream may be put in:

- `goal`: the same graph, the leaf of the next arm asked for. The streams of the
  two prompts are equal before the goal.
- `leaves`: the same question, the leaves of the two arms exchanged in the
  graph's edges, so that the same goal lies at the end of the other arm. Only
  where the graph is in the context.
- `self`: the prompt itself. Nothing can move.
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
  """Prompts, true answers, and what may be put in from where.

  Attributes:
    prompts: tokens up to the place where the first step is predicted, int32
      [B, P].
    answers: true paths in the order of the answer, int32 [B, l - 1].
    first: the node after the start on the way to the goal, int32 [B].
    arm: which of the start's children that is, in the order of the prompt; in
      weights the number of the arm. int32 [B].
    donors: by place, prompts to take the stream from, int32 [K, B, P].
    others: what the donors' answers are, int32 [K, B, l - 1].
    masks: positions of the prompt to put it in, bool [K, B, P].
  """

  prompts: jax.Array
  answers: jax.Array
  first: jax.Array
  arm: jax.Array
  donors: jax.Array
  others: jax.Array
  masks: jax.Array


def context_questions(task: PathStar, key: jax.Array, count: int) -> Questions:
  """Draws graphs, each asked about as `IN_CONTEXT` names.

  Args:
    task: its `teacher` does not matter.
    key: a PRNG key, consumed.
    count: number of graphs B.

  Returns:
    The questions; the other arm is the one whose first edge comes next in the
    prompt, after the last one the first.
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
  # Children after the own one in the prompt come first, then those before it.
  behind = jnp.arange(edges)[None] - jnp.argmax(own, axis=1)[:, None] - 1
  wait = jnp.where(child, behind % edges, edges)
  node = _pick(after, jnp.argmin(wait, axis=1))
  other = [node]
  for _ in range(task.steps - 1):
    node = _pick(after, jnp.argmax(before == node[:, None], axis=1))
    other.append(node)
  other = jnp.stack(other, axis=1)
  asked = prompts.at[:, size - 2].set(node)
  graph, leaf = prompts[:, : 3 * edges], node[:, None]
  exchanged = jnp.where(graph == goal[:, None], leaf, graph)
  exchanged = jnp.where(graph == leaf, goal[:, None], exchanged)
  exchanged = prompts.at[:, : 3 * edges].set(exchanged)
  at = jnp.broadcast_to(jnp.arange(size)[None], prompts.shape)
  mine, theirs = (_along(after, each, size) for each in (path, other))
  of_goal = (at >= 0, at < size - 2, at == size - 2, at == size - 1, at >= 0)
  of_leaves = (mine, theirs, mine | theirs, at == size - 2, at == size - 1)
  taken = _turned(task, jnp.concatenate([other[:, :-1], goal[:, None]], axis=1))
  return Questions(
    prompts=prompts,
    answers=answers,
    first=path[:, 0],
    arm=arm,
    donors=jnp.stack([prompts, *[asked] * 4, *[exchanged] * 5]),
    others=jnp.stack([answers, *[_turned(task, other)] * 4, *[taken] * 5]),
    masks=jnp.stack([*of_goal, *of_leaves]),
  )


def weight_questions(task: PathStarWeights, split: Split) -> Questions:
  """Asks for every path of a split once, as `IN_WEIGHTS` names.

  Args:
    task: the graph; its `split` and `teacher` do not matter.
    split: whose leaves to ask for.

  Returns:
    The questions; the other arm is the next one of the split.
  """
  _, arms = task.graph()
  trained = task.degree - task.test_leaves
  ids = jnp.arange(task.degree)
  ids = ids[:trained] if split == "train" else ids[trained:]
  path = jnp.asarray(arms)[ids]
  mark = jnp.full((len(path), 1), task.marks[0], jnp.int32)
  prompts = jnp.concatenate([mark, path[:, -1:]], axis=1)
  answers = _turned(task, path)
  asked, others = jnp.roll(prompts, -1, axis=0), jnp.roll(answers, -1, axis=0)
  at = jnp.broadcast_to(jnp.arange(2)[None], prompts.shape)
  return Questions(
    prompts=prompts,
    answers=answers,
    first=path[:, 0],
    arm=ids,
    donors=jnp.stack([prompts, asked, asked]),
    others=jnp.stack([answers, others, others]),
    masks=jnp.stack([at >= 0, at == 0, at == 1]),
  )


def _turned(task: PathStar | PathStarWeights, path: jax.Array) -> jax.Array:
  """From the order of the path to that of the answer, or back."""
  return path if task.direction == "forward" else path[:, ::-1]


def _pick(nodes: jax.Array, at: jax.Array) -> jax.Array:
  return jnp.take_along_axis(nodes, at[:, None], axis=1)[:, 0]


def _along(after: jax.Array, path: jax.Array, size: int) -> jax.Array:
  """The positions of a path's edges, with the mark behind each, [B, size]."""
  edge = (after[:, :, None] == path[:, None]).any(axis=2)
  return jnp.pad(
    jnp.repeat(edge, 3, axis=1), ((0, 0), (0, size - 3 * edge.shape[1]))
  )
