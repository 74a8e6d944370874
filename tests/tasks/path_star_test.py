"""Graphs are stars, paths lead to the goal, Clever Hans's loss is exact."""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.tasks import path_star
from jaxlook.tasks.path_star import PathStar
from tests.fixtures import base

_FORWARD = PathStar(degree=3, path_length=4, node_count=12)
_TASKS = {
  "forward": _FORWARD,
  "reversed": dataclasses.replace(
    _FORWARD, direction="reversed", teacher="teacherless"
  ),
}
_COUNT = 4096
_PROMPT = 3 * 9 + 3


@functools.cache
def _draw_batch(name):
  draw = jax.jit(_TASKS[name].batch, static_argnums=1)
  return jax.tree.map(np.asarray, draw(jax.random.key(0), _COUNT))


def _walk(edges, node):
  """Yields the nodes that follow a node along edges."""
  while node in edges:
    node = edges[node]
    yield node


class PathStarTest(base.TestCase):
  @parameterized.parameters(*_TASKS)
  def test_graphs(self, name):
    """The prompt has a star, start and goal; the answer is their path."""
    task, batch = _TASKS[name], _draw_batch(name)
    chex.assert_shape(list(batch), (_COUNT, task.length))
    chex.assert_type(list(batch), jnp.int32)
    places, orders = set(), set()
    for row in range(256):
      prompt = batch.inputs[row, :_PROMPT]
      np.testing.assert_array_equal(prompt[1:], batch.targets[row, :29])
      edges = prompt[:27].reshape(9, 3)
      np.testing.assert_array_equal(edges[:8, 2], 12)
      self.assertEqual((edges[8, 2], prompt[29]), (13, 14))
      start, goal = prompt[27:29]
      back = {v: u for u, v, _ in edges.tolist()}
      self.assertLen(back, 9)
      self.assertLen({start, *back}, 10)
      self.assertEqual((edges[:, 0] == start).sum(), 3)
      lengths = [len(list(_walk(back, v))) for v in back]
      self.assertEqual(sorted(lengths), [1, 1, 1, 2, 2, 2, 3, 3, 3])
      path = [goal, *_walk(back, goal)]
      self.assertLen(path, 4)
      answer = path[:-1] if task.direction == "reversed" else path[2::-1]
      np.testing.assert_array_equal(batch.targets[row, 29:], answer)
      places.add(start)
      orders.add(int(np.flatnonzero(edges[:, 1] == goal)[0]))
    self.assertEqual((places, orders), (set(range(12)), set(range(9))))

  def test_teachers(self):
    """The answer's inputs are the path, the dummy, or a mixture of both."""
    shown = _draw_batch("forward").inputs[:, _PROMPT:]
    np.testing.assert_array_equal(
      shown, _draw_batch("forward").targets[:, 29:-1]
    )
    hidden = _draw_batch("reversed").inputs[:, _PROMPT:]
    np.testing.assert_array_equal(hidden, _FORWARD.dummy)
    hide = jax.jit(path_star.hide, static_argnums=(2, 3, 4))
    inputs = np.asarray(_draw_batch("forward").inputs)
    masked = np.asarray(hide(jax.random.key(1), inputs, _PROMPT, "masked", 15))
    changed = masked != inputs
    np.testing.assert_array_equal(masked[changed], 15)
    self.assertFalse(changed[:, :_PROMPT].any())
    # With a uniform rate, two inputs are both hidden with probability 1/3, and
    # each of them with probability 1/2.
    noise = 5 * math.sqrt(0.25 / _COUNT)
    both = changed[:, _PROMPT:].all(axis=1).mean()
    self.assertAlmostEqual(both, 1 / 3, delta=noise)
    for share in changed[:, _PROMPT:].mean(axis=0):
      self.assertAlmostEqual(share, 1 / 2, delta=noise)

  @parameterized.parameters("forced", "masked", "teacherless")
  def test_clever_hans(self, teacher):
    """Its loss equals a loop over all patterns of hidden inputs."""
    task = dataclasses.replace(_FORWARD, teacher=teacher)
    losses = path_star.clever_hans(3, 3, "forward", teacher)
    counted = []
    # A fine grid of rates approximates the uniform distribution.
    rates = {"forced": [0.0], "teacherless": [1.0]}.get(
      teacher, (np.arange(1000) + 0.5) / 1000
    )
    for step in range(3):
      nodes_left = []
      for rate in rates:
        for pattern in np.ndindex(*[2] * step):
          chance = math.prod(rate if hid else 1 - rate for hid in pattern)
          nodes_left.append(chance * math.log(3 if all(pattern) else 1))
      counted.append(sum(nodes_left) / len(rates))
    np.testing.assert_allclose(losses, counted, atol=1e-6)
    self.assertAlmostEqual(task.chance, np.mean(counted), places=6)
    self.assertAlmostEqual(losses[0], math.log(3))
    reverse = dataclasses.replace(task, direction="reversed")
    np.testing.assert_array_equal(reverse.clever_hans(), np.zeros(3))

  def test_loss_and_accuracy(self):
    """Both cover the answer; Clever Hans is at chance at the first step."""
    task = _FORWARD
    batch = jax.tree.map(lambda x: x[:4], _draw_batch("forward"))
    loss = jax.jit(task.loss)
    logits = 1e9 * np.eye(task.vocab_size, dtype=np.float32)[batch.targets]
    self.assertEqual(loss(logits, batch).max(), task.bound)
    for row, prompt in enumerate(batch.inputs):
      edges = prompt[:27].reshape(9, 3)
      firsts = edges[edges[:, 0] == prompt[27], 1]
      logits[row, 29] = -1e9
      logits[row, 29, firsts] = 0.0
    logits[:, :29] = 0.0
    losses = np.asarray(loss(logits, batch))
    self.assertAlmostEqual(losses.mean(), math.log(3) / 3, places=6)
    self.assertAlmostEqual(losses.mean(), task.chance, places=6)
    np.testing.assert_array_equal(losses[:, :29], 0.0)
    predicted = np.array(batch.targets)
    predicted[:, :29] = 0
    predicted[1, 29] += 1
    expected = np.ones((4, 3), bool)
    expected[1, 0] = False
    np.testing.assert_array_equal(task.correct(predicted, batch), expected)
    self.assertAlmostEqual(task.first_step_chance, 1 / 3)

  @parameterized.parameters(
    ({"degree": 1}, "degree must be at least 2, not 1"),
    ({"path_length": 1}, "path_length must be at least 2, not 1"),
    ({"node_count": 9}, "node_count must be at least 10, the nodes of a graph"),
    ({"direction": "up"}, "direction must be one of forward, reversed"),
    ({"teacher": "none"}, "teacher must be one of forced, teacherless, masked"),
  )
  def test_bad_fields_are_refused(self, changes, message):
    """The error names the field."""
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(_FORWARD, **changes)


if __name__ == "__main__":
  absltest.main()
