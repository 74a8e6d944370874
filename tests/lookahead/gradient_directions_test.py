"""Tests of jaxlook.lookahead.gradient_directions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from jax.flatten_util import ravel_pytree

from jaxlook.lookahead import gradient_directions
from jaxlook.models import Decoder, DecoderConfig, apply
from tests.fixtures import base
from tests.fixtures.checkpoints import random_params

TWO = DecoderConfig(
  layers=2,
  width=8,
  heads=2,
  max_length=6,
  vocab_size=5,
  mlp_width=0,
  tied_head=False,
)
ONE = dataclasses.replace(TWO, layers=1)
STOPS = ("kv", "residual")

# Norms here are of size 0.01 to 10: above this is not 0.
CLEAR = 1e-6


def _params(config, seed=0):
  return jax.tree.map(np.float64, random_params(config, seed))


def _inputs(length=5):
  return jnp.asarray(np.random.default_rng(0).integers(5, size=(2, length)))


def _loss(outputs):
  weights = np.random.default_rng(1).normal(size=outputs.shape)
  return (outputs**2 * weights).mean()


def _compare(decoder, params, inputs, excluded=gradient_directions.EMBEDDINGS):
  return gradient_directions.compare_gradients(
    decoder, params, inputs, _loss, excluded
  )


@functools.cache
def _found(config):
  return _compare(Decoder(config), _params(config), _inputs())


@functools.cache
def _gradient(config, spec, excluded=gradient_directions.EMBEDDINGS):
  """As one vector, without the embeddings."""
  decoder = Decoder(config, spec, "reference")
  tree = jax.grad(lambda p: _loss(apply(decoder, p, _inputs())))(
    _params(config)
  )
  kept = {name: x for name, x in tree.items() if name not in excluded}
  return np.asarray(ravel_pytree(kept)[0])


def _cosine(a, b):
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


class GeometryTest(base.Float64TestCase):
  @parameterized.parameters(*STOPS)
  def test_is_what_the_gradients_say(self, stop):
    """Norms, ratios and cosines of gradients laid out as vectors."""
    found = _found(TWO)
    g, m, f = (
      _gradient(TWO, spec)
      for spec in ("causal", f"myopic/{stop}", f"future_only/{stop}")
    )
    size = np.linalg.norm(g)
    expected = {
      "norm_myopic": np.linalg.norm(m),
      "norm_future": np.linalg.norm(g - m),
      "ratio_myopic": np.linalg.norm(m) / size,
      "ratio_future": np.linalg.norm(g - m) / size,
      "ratio_two_cuts": np.linalg.norm(g - m - f) / size,
      "cos_myopic_future": _cosine(m, g - m),
      "cos_vanilla_myopic": _cosine(g, m),
    }
    self.assert_close(found["norm_vanilla"], size)
    for name, value in expected.items():
      self.assert_close(found[f"{stop}/{name}"], value)
      self.assertGreater(abs(value), CLEAR)

  @parameterized.parameters(*STOPS)
  def test_one_layer_mixes_nothing(self, stop):
    """The additivity law: strict is all of the future there.

    The two cuts by themselves do not add up, for both hold what passes through
    no key or value.
    """
    found = _found(ONE)
    self.assert_close(found[f"{stop}/norm_mixed"], np.zeros(()))
    future = found[f"{stop}/norm_future"]
    self.assert_close(found[f"{stop}/norm_strict"], future)
    self.assertGreater(future, CLEAR)
    self.assertGreater(found[f"{stop}/ratio_two_cuts"], 0.1)

  @parameterized.parameters(*STOPS)
  def test_two_layers_mix_the_own_and_the_past(self, stop):
    """Mixed is the own position in one layer and the past in the other.

    Each is had from gradients in which the layers have variants of their own.
    """
    own, past, none = (
      f"{variant}/{stop}" for variant in ("myopic", "future_only", "offset:9")
    )

    def through_both(first, second):
      return (
        _gradient(TWO, f"{first},{second}")
        - _gradient(TWO, f"{first},{none}")
        - _gradient(TWO, f"{none},{second}")
        + _gradient(TWO, f"{none},{none}")
      )

    mixed = through_both(own, past) + through_both(past, own)
    found = _found(TWO)
    self.assert_close(found[f"{stop}/norm_mixed"], np.linalg.norm(mixed))
    self.assertGreater(np.linalg.norm(mixed), CLEAR)
    strict = _gradient(TWO, "causal") - _gradient(TWO, own) - mixed
    self.assert_close(found[f"{stop}/norm_strict"], np.linalg.norm(strict))
    ratios = [found[f"{stop}/ratio_{x}"] for x in ("strict", "mixed")]
    sizes = np.array([np.linalg.norm(strict), np.linalg.norm(mixed)])
    self.assert_close(jnp.stack(ratios), sizes / found["norm_vanilla"])

  def test_leaves_out_what_it_is_told_to(self):
    """Embeddings count only where asked for; the untied head need not."""
    for excluded in ((), (*gradient_directions.EMBEDDINGS, "head")):
      found = _compare(Decoder(ONE), _params(ONE), _inputs(), excluded)
      vanilla = _gradient(ONE, "causal", excluded)
      self.assert_close(found["norm_vanilla"], np.linalg.norm(vanilla))
      self.assertNotAlmostEqual(
        float(found["norm_vanilla"]), float(_found(ONE)["norm_vanilla"])
      )

  def test_one_position_has_no_future(self):
    """Its norm is exactly 0, and its cosine NaN."""
    compare = jax.jit(lambda p: _compare(Decoder(ONE), p, _inputs(1)))
    found = compare(_params(ONE))
    for stop in STOPS:
      for part in ("future", "strict", "mixed"):
        self.assertEqual(found[f"{stop}/norm_{part}"], 0.0)
      self.assertTrue(np.isnan(found[f"{stop}/cos_myopic_future"]))
      self.assert_close(found[f"{stop}/cos_vanilla_myopic"], np.ones(()))

  def test_seeds_are_an_axis(self):
    """Under vmap, each seed has the numbers that it has alone."""
    stacked = jax.tree.map(
      lambda *x: jnp.stack(x), *(_params(ONE, seed) for seed in range(2))
    )
    compare = jax.vmap(lambda p: _compare(Decoder(ONE), p, _inputs()))
    together = jax.jit(compare)(stacked)
    alone = (
      _found(ONE),
      _compare(Decoder(ONE), _params(ONE, 1), _inputs()),
    )
    for e, expected in enumerate(alone):
      self.assert_close(jax.tree.map(lambda x, e=e: x[e], together), expected)

  def test_a_variant_is_taken_uncut(self):
    """Where it only cuts gradient; else the forward pass would be another."""
    for spec in base.GRADIENT_ONLY:
      self.assertEqual(
        gradient_directions.without_cuts(
          Decoder(TWO, f"causal,causal+{spec}"), "fused"
        ),
        Decoder(TWO, "causal", "fused"),
      )
    for spec in base.OTHER_FORWARD:
      with self.assertRaisesRegex(ValueError, "changes the forward pass"):
        gradient_directions.compare_gradients(
          Decoder(TWO, f"causal,causal+{spec}"), _params(TWO), _inputs(), _loss
        )


if __name__ == "__main__":
  absltest.main()
