"""Tests of jaxlook.lookahead.influence."""

import dataclasses
import functools
from unittest import mock

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from flax.traverse_util import flatten_dict

from jaxlook.lookahead import influence
from jaxlook.models import Decoder, DecoderConfig, residual_site
from tests.fixtures import base, position_copies
from tests.fixtures.checkpoints import random_params

LENGTH = 5
GPT2 = DecoderConfig(
  layers=2, width=8, heads=2, max_length=6, vocab_size=5, mlp_width=8
)
NEOX = dataclasses.replace(
  GPT2,
  layers=1,
  activation="gelu",
  positions="rotary",
  rotary_fraction=0.5,
  parallel_residual=True,
  tied_head=False,
)
CONTINUOUS = dataclasses.replace(
  GPT2,
  layers=1,
  mlp_width=4,
  vocab_size=None,
  input_features=2,
  output_features=5,
)
SHAPES = {"gpt2": GPT2, "neox": NEOX, "continuous": CONTINUOUS}
DISTANCE = np.subtract.outer(np.arange(LENGTH), np.arange(LENGTH))

# Derivatives here are of size 1e-3 to 10: above this is not 0.
CLEAR = 1e-6


def _params(config, seed=0):
  return jax.tree.map(np.float64, random_params(config, seed))


def _inputs(config):
  rng = np.random.default_rng(0)
  if config.vocab_size is not None:
    return jnp.asarray(rng.integers(config.vocab_size, size=(2, LENGTH)))
  return jnp.asarray(rng.normal(size=(2, LENGTH, config.input_features)))


def _losses(outputs):
  weights = np.random.default_rng(1).normal(size=outputs.shape)
  return (outputs**2 * weights).mean(axis=-1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _streams(config, spec, params):
  return influence.influence(
    Decoder(config, spec), params, _inputs(config), _losses
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _groups(config, spec, params):
  return influence.parameter_influence(
    Decoder(config, spec), params, _inputs(config), _losses
  )


@functools.cache
def _parameters(shape, spec):
  config = SHAPES[shape]
  return _groups(config, spec, _params(config))


class InfluenceTest(base.Float64TestCase):
  @parameterized.parameters("causal", "myopic/residual,horizon:1")
  def test_is_the_jacobian(self, spec):
    """Every derivative of every loss, by brute force."""
    config, inputs = GPT2, _inputs(GPT2)
    sites = [residual_site(config, n) for n in range(3)]

    def losses(moved):
      edits = {s: functools.partial(jnp.add, x) for s, x in moved.items()}
      return _losses(
        Decoder(config, spec).apply(
          {"params": _params(config)}, inputs, edits=edits
        )
      )

    zeros = {site: jnp.zeros((2, LENGTH, config.width)) for site in sites}
    jacobian = jax.jit(jax.jacobian(losses))(zeros)
    found = _streams(config, spec, _params(config))
    for layer, site in enumerate(sites):
      # Loss b, i to stream c, j: nothing between sequences.
      full = np.linalg.norm(jacobian[site], axis=-1)
      self.assertEqual(full[0, :, 1].max(), 0.0)
      own = np.stack([full[0, :, 0], full[1, :, 1]])
      self.assert_close(found[layer], own.mean(axis=0))

  @parameterized.parameters(
    ("causal", LENGTH),
    ("myopic", 0),
    ("myopic/residual", 0),
    ("horizon:1", 1),
    ("offset:2", 2),
  )
  def test_law_4_reaches_as_far_as_the_window(self, spec, high):
    """Layer l asks back by the layers above it times the window; not ahead."""
    found = np.asarray(_streams(GPT2, spec, _params(GPT2)))
    for layer in range(3):
      reach = min((2 - layer) * high, LENGTH - 1)
      beyond = (DISTANCE < 0) | (DISTANCE > reach)
      self.assertEqual(found[layer][beyond].max(), 0.0)
      for d in {0, reach}:
        self.assertGreater(found[layer][DISTANCE == d].min(), CLEAR)

  def test_seeds_are_an_axis(self):
    """Under vmap, each seed has the influences that it has alone."""
    seeds = [_params(CONTINUOUS, seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *seeds)
    for function in (_streams, _groups):
      one = functools.partial(function, CONTINUOUS, "causal")
      together = jax.vmap(one)(stacked)
      for e, params in enumerate(seeds):
        alone = one(params)
        self.assert_close(jax.tree.map(lambda x, e=e: x[e], together), alone)

  def test_refuses(self):
    """Losses that are not by sequence and position; a teacher that is not."""
    given = _params(CONTINUOUS), _inputs(CONTINUOUS)
    for function in (influence.influence, influence.parameter_influence):
      with self.assertRaises(AssertionError):
        function(Decoder(CONTINUOUS), *given, lambda y: _losses(y).mean(axis=0))
      with self.assertRaisesRegex(ValueError, "teacher"):
        function(Decoder(CONTINUOUS, "teacher"), *given, _losses)


class ParameterInfluenceTest(base.Float64TestCase):
  @parameterized.parameters(*SHAPES)
  def test_is_that_of_untied_copies(self, shape):
    """It agrees with another decoder that has a copy for each position."""
    config = SHAPES[shape]
    jacobian = position_copies.jacobian(
      config,
      _params(config),
      _inputs(config),
      lambda outputs: _losses(outputs).mean(axis=0),
    )
    squares = {}
    for path, x in flatten_dict(jacobian).items():
      inside = path[1] in ("attention", "mlp") if len(path) > 1 else False
      group = "/".join(path[:2]) if inside else "rest"
      square = (np.asarray(x) ** 2).sum(axis=tuple(range(2, x.ndim)))
      squares[group] = squares.get(group, 0.0) + square
    found = _parameters(shape, "causal")
    self.assertEqual(set(found), set(squares))
    self.assertLen(found, 1 + 2 * config.layers)
    for group, square in squares.items():
      self.assert_close(found[group], np.sqrt(square))
      self.assertGreater(found[group][DISTANCE == 0].min(), CLEAR)
      self.assertEqual(found[group][DISTANCE < 0].max(), 0.0)
    self.assert_close(
      influence.total_influence(found), np.sqrt(sum(squares.values()))
    )

  def test_myopic_is_the_diagonal(self):
    """Under `kv` all terms off the diagonal are 0, and the others causal's."""
    whole = _parameters("gpt2", "causal")
    myopic = _parameters("gpt2", "myopic/kv")
    off = DISTANCE != 0
    for group, found in myopic.items():
      self.assertEqual(found[off].max(), 0.0)
      self.assert_close(jnp.diagonal(found), jnp.diagonal(whole[group]))
    self.assertGreater(whole["rest"][DISTANCE > 0].min(), CLEAR)

  def test_residual_leaves_the_projections(self):
    """Under `residual` later losses reach W_K and W_V at j, nothing below."""
    found = _parameters("continuous", "myopic/residual")
    past = DISTANCE > 0
    self.assertGreater(found["block_0/attention"][past].min(), CLEAR)
    for group in ("rest", "block_0/mlp"):
      self.assertEqual(found[group][past].max(), 0.0)

  def test_no_module_goes_uncaught(self):
    """A module that has no copies fails instead of counting as nothing."""
    caught = (nn.Dense, nn.Embed)
    with (
      mock.patch.object(influence, "_POINTWISE", caught),
      self.assertRaises(flax.errors.ScopeParamNotFoundError),
    ):
      influence.parameter_influence(
        Decoder(GPT2), _params(GPT2), _inputs(GPT2), _losses
      )


if __name__ == "__main__":
  absltest.main()
