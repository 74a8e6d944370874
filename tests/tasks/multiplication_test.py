"""Products are right and written as documented; answers are scored right."""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.tasks import multiplication
from jaxlook.tasks.multiplication import Multiplication
from jaxlook.tasks.task import Batch
from tests.fixtures import base

_TASKS = {
  "padded": Multiplication(digits=3, pad=4),
  "unpadded": Multiplication(digits=3, pad=0),
  "large": Multiplication(digits=8, pad=8, lengths=(8, 7)),
}
_COUNT = 2048


@functools.cache
def _draw_batch(name):
  draw = jax.jit(_TASKS[name].batch, static_argnums=1)
  return jax.tree.map(np.asarray, draw(jax.random.key(0), _COUNT))


def _read(digits):
  """Returns the number and its number of written digits."""
  return int(digits[::-1]), len(digits)


def _lines(name):
  batch = _draw_batch(name)
  for first, rest in zip(batch.inputs[:, 0], batch.targets, strict=True):
    yield "".join(multiplication.NAMES[token] for token in (first, *rest))


class MultiplicationTest(base.TestCase):
  @parameterized.parameters(*_TASKS)
  def test_products(self, name):
    """Every line is a correct product, with an answer of full length."""
    task, batch = _TASKS[name], _draw_batch(name)
    chex.assert_shape(list(batch), (_COUNT, task.length))
    chex.assert_type(list(batch), jnp.int32)
    np.testing.assert_array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    for line in _lines(name):
      question, rest = line.split("=")
      (a, a_count), (b, b_count) = map(_read, question.split("*"))
      answer = rest.rstrip("_")
      self.assertEqual(_read(answer), (a * b, 2 * task.digits))
      if task.pad:
        self.assertEqual((a_count, b_count), (task.pad, task.pad))
        self.assertEqual(rest, answer)
      else:
        self.assertLen(line, 14)

  def test_lengths_are_uniform(self):
    """Numbers of digits are uniform and independent; high digits are not 0."""
    counts, ones, highs = np.zeros((3, 3)), [], []
    for line in _lines("unpadded"):
      a, b = line.split("=")[0].split("*")
      counts[len(a) - 1, len(b) - 1] += 1
      ones += [int(number) for number in (a, b) if len(number) == 1]
      highs += [int(number[-1]) for number in (a, b) if len(number) > 1]
    # Five standard errors.
    noise = 5 * math.sqrt(_COUNT * (1 / 9) * (8 / 9))
    self.assertLess(np.abs(counts - _COUNT / 9).max(), noise)
    self.assertEqual(set(ones), set(range(10)))
    self.assertEqual(set(highs), set(range(1, 10)))
    for values, kinds in ((ones, 10), (highs, 9)):
      shares = np.unique_counts(values).counts / len(values)
      noise = 5 * math.sqrt(1 / kinds / len(values))
      self.assertLess(np.abs(shares - 1 / kinds).max(), noise)

  def test_lengths_can_be_fixed(self):
    """`lengths` sets the number of digits of each operand before padding."""
    batch = _draw_batch("large")
    self.assertGreater(batch.inputs[:, 7].min(), 0)
    np.testing.assert_array_equal(batch.inputs[:, 16], 0)
    self.assertGreater(batch.inputs[:, 15].min(), 0)

  @parameterized.parameters("padded", "unpadded")
  def test_answers(self, name):
    """Loss and accuracy cover the answer's digits, at any position."""
    task = _TASKS[name]
    batch = Batch(*(x[:3] for x in _draw_batch(name)))
    asked = np.zeros((3, task.length), bool)
    predicted = np.full_like(batch.targets, 12)
    for row, tokens in enumerate(batch.inputs):
      first = tokens.tolist().index(11)
      asked[row, first : first + 6] = True
      predicted[row, first:] = batch.targets[row, first:]
      if row:
        predicted[row, first + row] += 1
    np.testing.assert_array_equal(jax.jit(task.asked)(batch), asked)
    wrong = np.zeros((3, 6), bool)
    wrong[1, 1] = wrong[2, 2] = True
    np.testing.assert_array_equal(
      jax.jit(task.correct)(predicted, batch), ~wrong
    )

    loss = jax.jit(task.loss)
    guess = np.full((3, task.length, 13), -1e9, np.float32)
    guess[..., :10] = 0.0
    losses = np.asarray(loss(guess, batch))
    np.testing.assert_array_equal(losses[~asked], 0.0)
    self.assertAlmostEqual(losses.mean(), task.chance, places=5)
    self.assertAlmostEqual(task.chance, math.log(10))
    right = 1e9 * np.eye(13, dtype=np.float32)[batch.targets]
    self.assertEqual(loss(right, batch).mean(), task.bound)

  def test_frequency_loss(self):
    """The loss is the entropy of each place's digit frequencies."""
    task = Multiplication(digits=1, pad=1)
    products = [divmod(a * b, 10)[::-1] for a in range(10) for b in range(10)]
    answers = np.asarray(products, np.int32)
    tokens = np.concatenate([np.full((100, 4), 0), answers], axis=1)
    tokens[:, [1, 3]] = 10, 11
    shares = [np.unique_counts(column).counts / 100 for column in answers.T]
    expected = [-(share * np.log(share)).sum() for share in shares]
    losses = jax.jit(task.frequency_loss)(Batch(tokens[:, :-1], tokens[:, 1:]))
    self.assert_close(np.asarray(losses), np.float32(expected), atol=1e-5)
    self.assertLess(max(expected), task.chance)

  @parameterized.parameters(
    ({"digits": 0}, "digits must be at least 1, not 0"),
    ({"pad": 4}, "pad must be 0 or at least 5, the number of digits, not 4"),
    ({"lengths": (0, 5)}, r"lengths must lie in 1\.\.5, not \(0, 5\)"),
    ({"lengths": (1, 6)}, r"lengths must lie in 1\.\.5, not \(1, 6\)"),
  )
  def test_bad_fields_are_refused(self, changes, message):
    """The error names the field."""
    with self.assertRaisesRegex(ValueError, message):
      dataclasses.replace(Multiplication(), **changes)


if __name__ == "__main__":
  absltest.main()
