"""The pre-caching task agrees with its published definition."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.tasks.precache import Precache
from jaxlook.tasks.task import Batch
from tests.fixtures import base

_TASK = Precache(p=0.3, terms=3, frequency=2.0, length=8)


def _draw(task, seed=0, size=4):
  return jax.tree.map(np.asarray, task.sample(jax.random.key(seed), size))


class PrecacheTest(base.TestCase):
  def test_published_chance_level(self):
    """Predicting 0 at p = 1, N = 64, a = b = 10 costs 1.2569, as published."""
    task = Precache(p=1.0, terms=10, frequency=10.0, length=64)
    count = 100_000
    batch = task.sample(jax.random.key(1), count)
    by_sequence = np.asarray(task.zero_loss(batch)).mean(axis=1)
    # Sequences are independent; positions within a sequence are not.
    self.assertLess(by_sequence.std() / np.sqrt(count), 0.0015)
    self.assertAlmostEqual(by_sequence.mean(), 1.2569, delta=0.004)

  @parameterized.parameters((3, 2.0, 8), (1, 10.0, 2), (1, 1.0, 1), (7, 0.5, 8))
  def test_sums(self, terms, frequency, length):
    """The sum at n adds sin(b x) over the `terms` inputs before n."""
    task = Precache(terms=terms, frequency=frequency, length=length)
    x = np.random.default_rng(2).normal(size=(2, length)).astype(np.float32)
    expected = np.zeros_like(x)
    for row, n in np.ndindex(*x.shape):
      for i in range(1, terms + 1):
        if n >= i:
          expected[row, n] += np.sin(frequency * x[row, n - i])
    # A few float32 roundings of numbers below 8.
    self.assert_close(np.asarray(task.sums(x)), expected, atol=1e-5)

  def test_targets(self):
    """The target is the sum where z = 1, else the input x."""
    batch = _draw(_TASK)
    chex.assert_shape(batch.inputs, (4, 8, 2))
    chex.assert_shape(batch.targets, (4, 8, 1))
    chex.assert_type(list(batch), jnp.float32)
    x, z = batch.inputs[..., 0], batch.inputs[..., 1]
    asked = z == 1
    self.assertBetween(asked.sum(), 1, asked.size - 1)
    y = batch.targets[..., 0]
    np.testing.assert_array_equal(y[~asked], x[~asked])
    np.testing.assert_array_equal(y[asked], np.asarray(_TASK.sums(x))[asked])
    self.assertGreater(np.abs(y - x)[asked & (np.arange(8) > 0)].min(), 0.0)

  def test_inputs(self):
    """X is standard normal, z is 1 with probability p, all independent."""
    count = 4000 * _TASK.length
    batch = _draw(_TASK, size=4000)
    x, z = (batch.inputs[..., i].ravel() for i in range(2))
    # Four standard errors each.
    self.assertAlmostEqual(x.mean(), 0.0, delta=4 / np.sqrt(count))
    self.assertAlmostEqual(x.var(), 1.0, delta=4 * np.sqrt(2 / count))
    self.assertEqual(set(z), {0.0, 1.0})
    self.assertAlmostEqual(z.mean(), 0.3, delta=4 * np.sqrt(0.21 / count))
    correlation = np.corrcoef([x[:-1], x[1:], z[:-1], z[1:]]) - np.eye(4)
    self.assertLess(np.abs(correlation).max(), 5 / np.sqrt(count))

  def test_p_of_0_and_1(self):
    """At p = 0 all targets are copies; at p = 1 all targets are sums."""
    for p in (0.0, 1.0):
      batch = _draw(dataclasses.replace(_TASK, p=p))
      np.testing.assert_array_equal(batch.inputs[..., 1], p)

  def test_batches_depend_on_the_key(self):
    """`sample` and `batch` agree for a key; another key gives another batch."""
    batch = _draw(_TASK)
    chex.assert_trees_all_equal(_draw(_TASK), batch)
    by_name = _TASK.batch(jax.random.key(0), 4, None)
    chex.assert_trees_all_equal(by_name, batch)
    other = _draw(_TASK, seed=1)
    self.assertGreater(np.abs(other.inputs - batch.inputs)[..., 0].min(), 0.0)

  def test_loss_is_huber(self):
    """The loss is error^2 / 2 up to an error of 1, then |error| - 1/2."""
    errors = np.array([[0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -3.0]], np.float32)
    targets = np.full((1, 7, 1), 0.25, np.float32)
    batch = Batch(inputs=jnp.zeros((1, 7, 2)), targets=jnp.asarray(targets))
    loss = _TASK.loss(jnp.asarray(targets + errors[..., None]), batch)
    expected = np.array([[0.0, 0.125, 0.125, 0.5, 0.5, 1.0, 2.5]], np.float32)
    np.testing.assert_array_equal(loss, expected)
    zero = np.full((1, 7), 0.25**2 / 2, np.float32)
    np.testing.assert_array_equal(_TASK.zero_loss(batch), zero)

  def test_chance_levels(self):
    """`trivial_loss` is 0 for copies and equals `zero_loss` for sums."""
    batch = _draw(_TASK)
    asked = batch.inputs[..., 1] == 1
    trivial, zero = (
      np.asarray(loss(batch)) for loss in (_TASK.trivial_loss, _TASK.zero_loss)
    )
    np.testing.assert_array_equal(trivial, np.where(asked, zero, 0.0))
    self.assertGreater(zero[~asked].min(), 0.0)

  @parameterized.parameters(
    ({"p": -0.1}, r"p must lie in \[0, 1\], not -0.1"),
    ({"p": 1.5}, r"p must lie in \[0, 1\], not 1.5"),
    ({"p": float("nan")}, r"p must lie in \[0, 1\], not nan"),
    ({"frequency": 0.0}, "frequency must be positive and finite, not 0.0"),
    ({"length": 0}, "length must be at least 1, not 0"),
    ({"terms": 0}, r"terms must lie in 1\.\.7 for length 8, not 0"),
    ({"terms": 8}, r"terms must lie in 1\.\.7 for length 8, not 8"),
    (
      {"length": 1, "terms": 2},
      r"terms must lie in 1\.\.1 for length 1, not 2",
    ),
  )
  def test_bad_fields_are_refused(self, changes, message):
    """The error names the field."""
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(_TASK, **changes)


if __name__ == "__main__":
  absltest.main()
