"""The next-token loss and its gradient."""

import dataclasses

import chex
import jax
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.models import Decoder, collect_context
from jaxlook.models.gradients import (
  check_tokens,
  loss_and_gradients,
  next_token_loss,
)
from tests.fixtures import base
from tests.fixtures.checkpoints import GPT2, NEOX, random_params

_CONFIG = dataclasses.replace(GPT2, layers=1)


_loss = jax.jit(next_token_loss, static_argnums=0)
_loss_and_gradients = jax.jit(loss_and_gradients, static_argnums=0)


def _tokens(config, seed=3):
  return np.random.default_rng(seed).integers(
    0, config.vocab_size, (2, 6), dtype=np.int32
  )


class GradientsTest(base.TestCase):
  @parameterized.named_parameters(("gpt2", GPT2), ("gpt_neox", NEOX))
  def test_definition(self, config):
    """The loss is the mean of -log p(token | earlier tokens), in nats."""
    params, tokens = random_params(config), _tokens(config)
    loss = _loss(Decoder(config), params, tokens)
    logits = np.float64(Decoder(config).apply({"params": params}, tokens))
    odds = np.exp(logits)
    expected = -np.mean(
      [
        np.log(odds[b, i, tokens[b, i + 1]] / odds[b, i].sum())
        for b in range(2)
        for i in range(5)
      ]
    )
    # The tolerance is float32 rounding of a number near 3.
    self.assertAlmostEqual(float(loss), expected, delta=1e-5)

  def test_shortest_sequence(self):
    """Two tokens have one loss; the second token is only a target."""
    params = random_params(_CONFIG)
    both = [np.array([[4, t]], np.int32) for t in range(_CONFIG.vocab_size)]
    losses = [_loss(Decoder(_CONFIG), params, t) for t in both]
    # The probabilities of all second tokens sum to 1, up to float32 rounding.
    self.assertAlmostEqual(np.exp(-np.array(losses)).sum(), 1.0, delta=1e-5)

  def test_gradient_is_the_derivative(self):
    """The gradient equals a finite difference along a random direction."""
    with jax.enable_x64(True):
      params = jax.tree.map(np.float64, random_params(_CONFIG))
      direction = jax.tree.map(np.float64, random_params(_CONFIG, seed=1))
      tokens, step = _tokens(_CONFIG), 1e-5
      decoder = Decoder(_CONFIG)
      loss, gradients = _loss_and_gradients(decoder, params, tokens)
      chex.assert_trees_all_equal_shapes_and_dtypes(gradients, params)
      ends = [
        float(
          _loss(
            decoder,
            jax.tree.map(lambda p, d, s=s: p + s * d, params, direction),
            tokens,
          )
        )
        for s in (-step, step)
      ]
    slope = sum(
      jax.tree.leaves(
        jax.tree.map(
          lambda g, d: np.sum(np.asarray(g) * d), gradients, direction
        )
      )
    )
    self.assertGreater(abs(slope), 0.1)
    # The error of a central difference is about step^2 = 1e-10 * a derivative.
    np.testing.assert_allclose(slope, (ends[1] - ends[0]) / 2 / step, rtol=1e-6)
    np.testing.assert_allclose(loss, (ends[1] + ends[0]) / 2, rtol=1e-6)

  def test_the_variant_changes_only_the_gradient(self):
    """The variant blocks terms of the gradient, not of the loss."""
    params, tokens = random_params(_CONFIG), _tokens(_CONFIG)
    loss, causal = _loss_and_gradients(Decoder(_CONFIG), params, tokens)
    same, myopic = _loss_and_gradients(
      Decoder(_CONFIG, "myopic"), params, tokens
    )
    np.testing.assert_allclose(loss, same, rtol=1e-6)
    key = [g["block_0"]["attention"]["key"]["kernel"] for g in (causal, myopic)]
    self.assertGreater(np.linalg.norm(key[0] - key[1]), 1e-3)

  def test_the_last_token_gets_no_gradient(self):
    """The last position's embedding gets gradient 0."""
    params, tokens = random_params(_CONFIG), _tokens(_CONFIG)
    _, gradients = _loss_and_gradients(Decoder(_CONFIG), params, tokens)
    table = gradients["position_embedding"]
    np.testing.assert_array_equal(table[5:], 0.0)
    self.assertGreater(np.abs(table[:5]).min(), 0.0)

  @parameterized.parameters("teacher", "teacher/residual")
  def test_teacher(self, spec):
    """A model as its own teacher is myopic; another teacher changes it."""
    params, tokens = random_params(_CONFIG), _tokens(_CONFIG)
    collect = jax.jit(collect_context, static_argnums=0)
    _, own = collect(Decoder(_CONFIG), params, tokens)
    other_params = random_params(_CONFIG, seed=1)
    _, other = collect(Decoder(_CONFIG), other_params, tokens)
    decoder = Decoder(_CONFIG, spec)
    self_taught = _loss_and_gradients(decoder, params, tokens, own)
    myopic = _loss_and_gradients(
      Decoder(_CONFIG, spec.replace("teacher", "myopic")), params, tokens
    )
    chex.assert_trees_all_close(self_taught, myopic, rtol=1e-4, atol=1e-6)
    changed = _loss(decoder, params, tokens, other)
    self.assertGreater(abs(changed - self_taught[0]), 1e-3)

  def test_bad_arguments_are_refused(self):
    """Inputs without next tokens, logits or tokens are errors."""
    params, decoder = random_params(_CONFIG), Decoder(_CONFIG)
    for tokens, message, error in (
      (np.zeros((2, 1), int), "length must be at least 2, not 1", ValueError),
      (np.zeros((2, 11), int), "length 11 exceed max_length=10", ValueError),
      (np.zeros(3, int), r"rank 1 \(shape .* but expected 2", AssertionError),
      (np.zeros((2, 3)), "float64", AssertionError),
    ):
      with self.assertRaisesRegex(error, message):
        loss_and_gradients(decoder, params, tokens)
    with self.assertRaisesRegex(ValueError, "needs a teacher's context"):
      next_token_loss(
        Decoder(_CONFIG, "teacher"), params, np.zeros((1, 2), int)
      )
    continuous = Decoder(dataclasses.replace(_CONFIG, output_features=2))
    with self.assertRaisesRegex(ValueError, "from tokens to logits"):
      next_token_loss(continuous, params, np.zeros((1, 2), int))

  @parameterized.parameters(
    (np.zeros((0, 4), int), "at least 1 sequence .* not 0 of 4"),
    (np.zeros((3, 1), int), "at least 2 tokens, not 3 of 1"),
    (np.zeros((1, 11), int), "length 11 exceed the model's 10 positions"),
    (np.array([[0, -1]]), r"must lie in 0\.\.16, not in -1\.\.0"),
    (np.array([[3, 17]], np.uint64), r"must lie in 0\.\.16, not in 3\.\.17"),
  )
  def test_check_tokens(self, tokens, message):
    """Tokens and lengths outside the model's range are errors."""
    check_tokens(GPT2, np.full((1, 10), 16))
    with self.assertRaisesRegex(ValueError, message):
      check_tokens(GPT2, tokens)


if __name__ == "__main__":
  absltest.main()
