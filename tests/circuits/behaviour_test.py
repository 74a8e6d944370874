"""Scores of heads are 1 for a circuit built by hand, and match loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from jaxlook import models
from jaxlook.circuits import behaviour, qk_ov
from tests.fixtures import base, built_circuits


@functools.cache
def _scores():
  tokens = built_circuits.repeats(jax.random.key(1))
  return behaviour.head_scores(
    built_circuits.DECODER, built_circuits.induction_params(), tokens
  )


class BuiltTest(base.Float64TestCase):
  def test_every_score_is_ideal(self):
    """Each head of the built circuit scores 1 in the task it is built for."""
    found = _scores()
    for score, head in (
      (found.previous, built_circuits.PREVIOUS),
      (found.duplicate, built_circuits.DUPLICATE),
      (found.prefix, built_circuits.INDUCTION),
      (found.copying, built_circuits.INDUCTION),
    ):
      np.testing.assert_allclose(score[head], 1.0, atol=1e-6)

  def test_no_other_head_scores(self):
    """No head scores high in a task that it is not built for."""
    found = _scores()
    idle = (1, 1)
    for score, head in (
      (found.previous, built_circuits.PREVIOUS),
      (found.duplicate, built_circuits.DUPLICATE),
      (found.prefix, built_circuits.INDUCTION),
    ):
      others = score.at[head].set(0.0).at[idle].set(0.0)
      # Without an earlier copy the induction head attends evenly.
      self.assertLess(others.max(), 0.2)
      # Even attention is spread over up to 16 positions.
      self.assertBetween(score[idle], 0.05, 0.3)
    self.assertLess(
      found.copying.at[built_circuits.INDUCTION].set(0.0).max(), 0.3
    )

  def test_model_copies(self):
    """The model predicts the repeat, so the in-context score is negative."""
    tokens = built_circuits.repeats(jax.random.key(2))
    logits = models.apply(
      built_circuits.DECODER, built_circuits.induction_params(), tokens
    )
    half = built_circuits.VOCAB
    nats = -jax.nn.log_softmax(logits[:, :-1])
    losses = jnp.take_along_axis(nats, tokens[:, 1:, None], -1)[..., 0]
    self.assertLess(losses[:, half:].max(), 1e-3)
    score = behaviour.in_context_score(
      losses, slice(0, half - 1), slice(half, None)
    )
    by_hand = losses[:, half:].mean(1) - losses[:, : half - 1].mean(1)
    self.assert_close(score, by_hand)
    self.assertLess(score.max(), -1.0)

  def test_weights(self):
    """The induction head's OV circuit copies; head one attends one back."""
    params = built_circuits.induction_params()
    config = built_circuits.CONFIG
    copies = qk_ov.full_ov(config, params).eigen_score()
    # Its weights read the subspace that the earlier head writes to.
    self.assertAlmostEqual(copies[built_circuits.INDUCTION], 1.0)
    scores = qk_ov.positional_qk(config, params)[built_circuits.PREVIOUS]
    found = jnp.argmax(scores, axis=1)
    self.assertEqual(found.tolist(), [0, *range(built_circuits.LENGTH - 1)])


class DefinitionTest(base.Float64TestCase):
  def test_against_loops(self):
    """Each score equals the mean over queries, computed with loops."""
    tokens = np.array([[3, 1, 3, 1, 1, 2], [0, 0, 2, 0, 2, 1]])
    pattern = np.asarray(
      jax.nn.softmax(jax.random.normal(jax.random.key(0), (2, 3, 6, 6)))
    )
    sums = {"duplicate": [], "prefix": []}
    for b, i in np.ndindex(*tokens.shape):
      copies = [j for j in range(i) if tokens[b, j] == tokens[b, i]]
      after = [j + 1 for j in copies if j + 1 < i]
      if copies:
        sums["duplicate"].append(pattern[b, :, i, copies].sum(0))
      if after:
        sums["prefix"].append(pattern[b, :, i, after].sum(0))
    for name, function in (
      ("duplicate", behaviour.duplicate_token),
      ("prefix", behaviour.prefix_matching),
    ):
      found = function(jnp.asarray(pattern), jnp.asarray(tokens))
      self.assert_close(found, np.mean(sums[name], axis=0))
    previous = [pattern[b, :, i, i - 1] for b in range(2) for i in range(1, 6)]
    self.assert_close(
      behaviour.previous_token(jnp.asarray(pattern)), np.mean(previous, 0)
    )

  def test_copying(self):
    """Right guesses over the number of queries with an earlier copy."""
    tokens = jnp.array([[3, 1, 3, 1, 1, 2]])
    # At 2 what followed is 1; at 3 it is 3; at 4, 3 or 1 (at 4 itself, no).
    guesses = jnp.array([[[0, 0, 1, 3, 3, 9]], [[9, 9, 9, 3, 9, 9]]])
    found = behaviour.copying(guesses, tokens)
    np.testing.assert_allclose(found, [1.0, 1 / 3])


if __name__ == "__main__":
  absltest.main()
