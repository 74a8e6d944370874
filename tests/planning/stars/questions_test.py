"""Questions about path-star graphs match paths found by following edges."""

import jax
import numpy as np
from absl.testing import parameterized

from jaxlook.planning.stars import questions as stars
from jaxlook.tasks.path_star import PathStar
from jaxlook.tasks.path_star_weights import PathStarWeights, Split
from tests.fixtures import base


def edges_of(task, prompt):
  """The edges of a prompt, in their order in the prompt."""
  count = task.degree * task.steps
  return [tuple(map(int, prompt[3 * k : 3 * k + 2])) for k in range(count)]


def path_of(task, prompt):
  """The path that a prompt asks for, found backwards from the goal."""
  before = {v: u for u, v in edges_of(task, prompt)}
  start, goal = map(int, prompt[-3:-1])
  path = [goal]
  while before[path[0]] != start:
    path.insert(0, before[path[0]])
  return path


class StarsTest(base.TestCase):
  @parameterized.parameters("forward", "reversed")
  def test_in_context(self, direction):
    """A donor's answer is the path of its own prompt, on another arm."""
    task = PathStar(3, 4, 14, direction=direction)
    questions = stars.context_questions(task, jax.random.key(0), 6)
    questions = jax.tree.map(np.asarray, questions)
    turn = 1 if direction == "forward" else -1
    for b, prompt in enumerate(questions.prompts):
      path = path_of(task, prompt)
      self.assertEqual(questions.answers[b].tolist(), path[::turn])
      self.assertEqual(questions.first[b], path[0])
      edges = edges_of(task, prompt)
      children = [v for u, v in edges if u == prompt[-3]]
      self.assertEqual(children[questions.arm[b]], path[0])
      following = children[(children.index(path[0]) + 1) % 3]
      for k, place in enumerate(stars.IN_CONTEXT):
        donor, mask = questions.donors[k, b], questions.masks[k, b]
        other = path_of(task, donor)
        self.assertEqual(questions.donor_answers[k, b].tolist(), other[::turn])
        changed = set(np.flatnonzero(donor != prompt))
        if place.startswith("self"):
          self.assertEmpty(changed)
          continue
        self.assertEqual(other[0], following)
        if place.startswith("goal"):
          self.assertEqual(changed, {task.prompt_length - 2})
        else:
          self.assertEqual(donor[-3:].tolist(), prompt[-3:].tolist())
          self.assertLen(changed, 2)
        arms = {
          "leaves: edges of the goal's arm": path,
          "leaves: edges of the other arm": other[:-1]
          + path_of(task, questions.donors[2, b])[-1:],
        }
        if place in arms:
          at = [k for k, (_, v) in enumerate(edges) if v in arms[place]]
          wanted = [3 * k + i for k in at for i in range(3)]
          self.assertEqual(np.flatnonzero(mask).tolist(), wanted)

  def test_in_weights(self):
    """Each leaf of a split is a goal once; the donor has the next leaf."""
    task = PathStarWeights(8, 3, held_out=0.25)
    _, arms = task.graph()
    splits: dict[Split, range] = {"train": range(6), "test": range(6, 8)}
    for split, ids in splits.items():
      questions = stars.weight_questions(task, split)
      np.testing.assert_array_equal(questions.answers, arms[list(ids)])
      np.testing.assert_array_equal(
        questions.prompts[:, 1], arms[list(ids), -1]
      )
      self.assertLen(questions.donors, len(stars.IN_WEIGHTS))
      following = np.roll(arms[list(ids)], -1, axis=0)
      goal = stars.IN_WEIGHTS.index(stars.GOAL)
      np.testing.assert_array_equal(questions.donor_answers[goal], following)
      np.testing.assert_array_equal(
        questions.donors[goal][:, 1], following[:, -1]
      )
