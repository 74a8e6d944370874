"""Training asks for edges and some paths; the test asks for other paths."""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.tasks.path_star_weights import PathStarWeights
from tests.fixtures import base

_TRAIN = PathStarWeights(degree=4, path_length=4, held_out=0.25)
_TEST = dataclasses.replace(_TRAIN, split="test", direction="reversed")
_TASKS = {"train": _TRAIN, "test": _TEST}
_COUNT = 4096
_PATH, _NEXT, _BACK, _DUMMY = 13, 14, 15, 16


@functools.cache
def _draw_batch(name):
  draw = jax.jit(_TASKS[name].batch, static_argnums=1)
  return jax.tree.map(np.asarray, draw(jax.random.key(0), _COUNT))


def _rows(name):
  batch = _draw_batch(name)
  return np.concatenate([batch.inputs[:, :1], batch.targets], axis=1).tolist()


class PathStarWeightsTest(base.TestCase):
  def test_graph(self):
    """Every node has one place in the star; the seed determines it."""
    start, arms = _TRAIN.graph()
    self.assertEqual(arms.shape, (4, 3))
    self.assertEqual(sorted([start, *arms.ravel()]), list(range(13)))
    other, _ = dataclasses.replace(_TRAIN, graph_seed=1).graph()
    again, _ = dataclasses.replace(_TRAIN, split="test").graph()
    self.assertEqual(start, again)
    self.assertNotEqual(start, other)

  def test_training(self):
    """Training draws all edges in both directions, and the training paths."""
    batch = _draw_batch("train")
    chex.assert_shape(list(batch), (_COUNT, 4))
    chex.assert_type(list(batch), jnp.int32)
    np.testing.assert_array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    start, arms = _TRAIN.graph()
    expected = {}
    for index, arm in enumerate(arms.tolist()):
      for u, v in zip([start, *arm], arm, strict=False):
        expected[_NEXT, u, v, _DUMMY, _DUMMY] = 1 / 2 / 24
        expected[_BACK, v, u, _DUMMY, _DUMMY] = 1 / 2 / 24
      if index < 3:
        expected[_PATH, arm[-1], *arm] = 1 / 2 / 3
    kinds, counts = np.unique(_rows("train"), axis=0, return_counts=True)
    self.assertEqual({tuple(kind) for kind in kinds.tolist()}, set(expected))
    for kind, count in zip(kinds.tolist(), counts, strict=True):
      share = expected[tuple(kind)]
      noise = 5 * math.sqrt(share / _COUNT)
      self.assertAlmostEqual(count / _COUNT, share, delta=noise)

  def test_held_out(self):
    """The test asks only for the held-out path, here from the leaf back."""
    _, arms = _TRAIN.graph()
    self.assertEqual(_TEST.test_leaves, 1)
    arm = arms[3].tolist()
    for row in _rows("test")[:64]:
      self.assertEqual(row, [_PATH, arm[-1], *arm[::-1]])

  def test_loss_and_levels(self):
    """The bound costs NEXT of the start; chance also the first step."""
    batch = _draw_batch("train")
    start, arms = _TRAIN.graph()
    logits = 1e9 * np.eye(17, dtype=np.float32)[batch.targets]
    ambiguous = (batch.inputs[:, 0] == _NEXT) & (batch.inputs[:, 1] == start)
    guess = np.full(17, -1e9, np.float32)
    guess[arms[:, 0]] = 0.0
    logits[ambiguous, 1] = guess
    loss = jax.jit(_TRAIN.loss)
    noise = 5 * math.sqrt(1 / 12 / _COUNT) * math.log(4)
    best = loss(logits, batch).mean(axis=1)
    self.assertAlmostEqual(best.mean(), _TRAIN.bound, delta=noise)
    self.assertAlmostEqual(_TRAIN.bound, math.log(4) / 12)
    # All items have the same weight, however many nodes they ask for.
    np.testing.assert_allclose(best[ambiguous], math.log(4), rtol=1e-6)
    paths = batch.inputs[:, 0] == _PATH
    logits[paths, 1] = guess
    chance = loss(logits, batch).mean(axis=1)
    np.testing.assert_allclose(chance[paths], math.log(4) / 3, rtol=1e-6)
    self.assertAlmostEqual(chance.mean(), _TRAIN.chance, delta=2 * noise)
    test = dataclasses.replace(_TEST, direction="forward")
    self.assertAlmostEqual(test.chance, math.log(4) / 3)
    self.assertEqual((test.bound, _TEST.chance), (0.0, 0.0))

  def test_asked_positions(self):
    """An edge asks for one node, a path for three."""
    batch = _draw_batch("train")
    asked = np.asarray(jax.jit(_TRAIN.asked)(batch))
    for row, mark in enumerate(batch.inputs[:64, 0]):
      expected = [False, True, True, True] if mark == _PATH else [0, 1, 0, 0]
      np.testing.assert_array_equal(asked[row], expected)

  def test_accuracy_and_teachers(self):
    """Steps are compared one by one; `teacherless` hides a path's inputs."""
    batch = _draw_batch("test")
    predicted = np.array(batch.targets)
    predicted[0, 1] += 1
    correct = _TEST.correct(predicted, batch)
    expected = np.ones((_COUNT, 3), bool)
    expected[0, 0] = False
    np.testing.assert_array_equal(correct, expected)
    self.assertEqual(_TEST.first_step_chance, 1 / 4)
    blind = dataclasses.replace(_TRAIN, teacher="teacherless", edge_share=0.0)
    hidden = jax.jit(blind.batch, static_argnums=1)(jax.random.key(0), 8)
    np.testing.assert_array_equal(hidden.inputs[:, 2:], _DUMMY)
    self.assertLess(hidden.inputs[:, 1].max(), 13)
    self.assertLess(hidden.targets[:, 1:].max(), 13)

  @parameterized.parameters(
    ({"degree": 1}, "degree must be at least 2, not 1"),
    ({"path_length": 1}, "path_length must be at least 2, not 1"),
    ({"held_out": 0.1}, "held_out must leave leaves on both sides of 4"),
    ({"held_out": 1.0}, "held_out must leave leaves on both sides of 4"),
    ({"edge_share": 2.0}, r"edge_share must lie in \[0, 1\], not 2.0"),
    ({"split": "valid"}, "split must be one of train, test, not 'valid'"),
    ({"direction": "up"}, "direction must be one of forward, reversed"),
    ({"teacher": "none"}, "teacher must be one of forced, teacherless, masked"),
    ({"graph_seed": -1}, "graph_seed must be at least 0, not -1"),
  )
  def test_bad_fields_are_refused(self, changes, message):
    """The error names the field."""
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(_TRAIN, **changes)


if __name__ == "__main__":
  absltest.main()
