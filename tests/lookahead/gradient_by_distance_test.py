"""Tests of jaxlook.lookahead.gradient_by_distance."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook.lookahead import gradient_by_distance
from jaxlook.models import Decoder, DecoderConfig
from tests.fixtures import base
from tests.fixtures.checkpoints import random_params

LENGTH = 5
LEARNED = DecoderConfig(
  layers=2, width=8, heads=2, max_length=6, vocab_size=5, mlp_width=8
)
ROTARY = dataclasses.replace(
  LEARNED,
  positions="rotary",
  rotary_fraction=0.5,
  parallel_residual=True,
  tied_head=False,
)
SHAPES = {"learned": LEARNED, "rotary": ROTARY}
CASES = tuple((shape, layer) for shape in SHAPES for layer in (0, 1))
PARTS = ("key", "value")

# Gradients here are of size 1e-3 to 1: above this is not 0.
CLEAR = 1e-6


def _params(config, seed=0):
  return jax.tree.map(np.float64, random_params(config, seed))


def _inputs(config, length=LENGTH):
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.integers(config.vocab_size, size=(3, length)))


def _loss(outputs):
  weights = np.random.default_rng(1).normal(size=outputs.shape)
  return (outputs**2 * weights).mean()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(config, layers, params, inputs):
  given = Decoder(config), params, inputs, _loss
  return gradient_by_distance.inner_products(*given), [
    gradient_by_distance.by_distance(*given, layer) for layer in range(layers)
  ]


@functools.cache
def _found(shape):
  """The split of each layer, and its gradients by distance."""
  config = SHAPES[shape]
  return _run(config, config.layers, _params(config), _inputs(config))


def _split(shape):
  return _found(shape)[0]


def _by_distance(shape, layer):
  return _found(shape)[1][layer]


def _gradients(config, layer, spec):
  """By jax.grad, with one layer under a spec and the others causal."""
  names = ["causal"] * config.layers
  names[layer] = spec
  decoder = Decoder(config, ",".join(names), "reference")
  at = f"block_{layer}/attention"
  inputs = _inputs(config)
  moved = jnp.zeros((*inputs.shape, config.heads, config.head_width))

  def loss(params, moved):
    edits = {
      f"{at}/{part}": functools.partial(jnp.add, moved[part]) for part in PARTS
    }
    return _loss(decoder.apply({"params": params}, inputs, edits=edits))

  of_params, of_sites = jax.grad(loss, argnums=(0, 1))(
    _params(config), {part: moved for part in PARTS}
  )
  kernels = of_params[f"block_{layer}"]["attention"]
  by_head = (config.width, config.heads, config.head_width)
  return gradient_by_distance.ByDistance(
    key=of_sites["key"],
    value=of_sites["value"],
    key_kernel=kernels["key"]["kernel"].reshape(by_head),
    value_kernel=kernels["value"]["kernel"].reshape(by_head),
  )


class ByDistanceTest(base.Float64TestCase):
  @parameterized.parameters(*CASES)
  def test_distances_add_up(self, shape, layer):
    """Summed over distances, the split is the whole gradient."""
    found = _by_distance(shape, layer)
    whole = jax.tree.map(lambda x: x.sum(axis=0), found)
    expected = _gradients(SHAPES[shape], layer, "causal")
    self.assert_close(whole, expected)
    for name, x in expected._asdict().items():
      self.assertGreater(np.abs(x).max(), CLEAR, name)

  @parameterized.parameters(*CASES)
  def test_each_distance_is_an_offset(self, shape, layer):
    """g_d is what the layer gets under offset:d, the others being causal."""
    found = _by_distance(shape, layer)
    # Two distances at a time, one a head.
    for pair in ((0, 1), (2, 3), (4, LENGTH)):
      spec = "+".join(f"offset:{d}/kv" for d in pair)
      expected = _gradients(SHAPES[shape], layer, spec)
      for head, d in enumerate(pair):
        for name, x in expected._asdict().items():
          of_head = x[..., head, :]
          if d == LENGTH:
            np.testing.assert_array_equal(of_head, np.zeros(of_head.shape))
          else:
            self.assert_close(getattr(found, name)[d][..., head, :], of_head)
            self.assertGreater(np.abs(of_head).max(), CLEAR, name)

  def test_counts_are_those_of_the_terms(self):
    """At distance d there is one term for each of T - d keys."""
    value_TxBxSxNxH = np.asarray(_by_distance("learned", 0).value)
    there_TxS = np.abs(value_TxBxSxNxH).max(axis=(1, 3, 4)) > 0
    np.testing.assert_array_equal(
      gradient_by_distance.pair_counts(LENGTH), there_TxS.sum(axis=1)
    )
    # The key at j has its own query and T - 1 - j later ones.
    np.testing.assert_array_equal(
      there_TxS[1:].sum(axis=0), LENGTH - 1 - np.arange(LENGTH)
    )
    self.assertTrue(there_TxS[0].all())

  @parameterized.parameters(1, 2, 7, 64)
  def test_counts_add_up(self, length):
    """There are T (T + 1) / 2 pairs in all."""
    counts = gradient_by_distance.pair_counts(length)
    self.assertEqual(counts.sum(), length * (length + 1) // 2)
    self.assertEqual(counts[0], length)

  def test_refuses(self):
    """Layers that are not there, and lengths that are none."""
    config = LEARNED
    for layer in (-1, 2):
      with self.assertRaisesRegex(ValueError, rf"in 0\.\.1, not {layer}"):
        gradient_by_distance.by_distance(
          Decoder(config), _params(config), _inputs(config), _loss, layer
        )
    with self.assertRaisesRegex(ValueError, "at least 1, not 0"):
      gradient_by_distance.pair_counts(0)


class SplitTest(base.Float64TestCase):
  @parameterized.parameters(*SHAPES)
  def test_holds_the_inner_products(self, shape):
    """Each Gram matrix is that of the gradients themselves."""
    for layer, found in enumerate(_split(shape)):
      gradients = _by_distance(shape, layer)
      for name, gram_NxTxT in found._asdict().items():
        self.assertEqual(gram_NxTxT.shape, (2, LENGTH, LENGTH))
        g = np.moveaxis(np.asarray(getattr(gradients, name)), -2, 0)
        for head, of_head in enumerate(g):
          flat = of_head.reshape(LENGTH, -1)
          self.assert_close(gram_NxTxT[head], flat @ flat.T)

  @parameterized.parameters(*SHAPES)
  def test_shares_sum_to_one(self, shape):
    """Of heads, of sums over heads, signed or of norms."""
    for found in _split(shape):
      for gram_NxTxT in found:
        for share in (
          gradient_by_distance.signed_share,
          gradient_by_distance.norm_share,
        ):
          self.assert_close(share(gram_NxTxT).sum(axis=-1), np.ones(2))
          self.assert_close(share(gram_NxTxT.sum(axis=0)).sum(), np.ones(()))

  @parameterized.parameters(*base.OTHER_FORWARD)
  def test_refuses_another_forward_pass(self, spec):
    """Even in one head, for its gradients would be another model's."""
    config = LEARNED
    with self.assertRaisesRegex(ValueError, "changes the forward pass"):
      gradient_by_distance.inner_products(
        Decoder(config, f"causal,causal+{spec}"),
        _params(config),
        _inputs(config),
        _loss,
      )

  def test_one_position(self):
    """Without a future all is at distance 0.

    A key that competes with none has no gradient, and its shares are NaN.
    """
    config = LEARNED
    found, _ = _run(config, 0, _params(config), _inputs(config, 1))
    for layer in found:
      for gram_NxTxT in (layer.value, layer.value_kernel):
        self.assertGreater(gram_NxTxT.min(), 0.0)
        self.assert_close(
          gradient_by_distance.signed_share(gram_NxTxT), np.ones((2, 1))
        )
        self.assert_close(
          gradient_by_distance.norm_share(gram_NxTxT), np.ones((2, 1))
        )
        cosine = gradient_by_distance.self_future_cosine(gram_NxTxT)
        self.assertTrue(np.isnan(cosine).all())
      for gram_NxTxT in (layer.key, layer.key_kernel):
        np.testing.assert_array_equal(gram_NxTxT, np.zeros((2, 1, 1)))
        for share in (
          gradient_by_distance.signed_share,
          gradient_by_distance.norm_share,
        ):
          self.assertTrue(np.isnan(share(gram_NxTxT)).all())

  def test_seeds_are_an_axis(self):
    """Under vmap, each seed has the split that it has alone.

    So it has where the decoder's variant cuts gradient: it is taken uncut.
    """
    config = LEARNED
    decoder = Decoder(config, "myopic/residual+leak:0.3,offset:2", "fused")
    seeds = [_params(config, seed) for seed in range(2)]
    together = jax.jit(
      jax.vmap(
        lambda p: gradient_by_distance.inner_products(
          decoder, p, _inputs(config), _loss
        )
      )
    )(jax.tree.map(lambda *x: jnp.stack(x), *seeds))
    alone, _ = _run(config, config.layers, seeds[1], _inputs(config))
    for e, expected in enumerate((_split("learned"), alone)):
      self.assert_close(jax.tree.map(lambda x, e=e: x[e], together), expected)


class GramTest(base.Float64TestCase):
  @parameterized.parameters(0, 1, 2)
  def test_is_what_the_vectors_say(self, seed):
    """Shares, norms and the cosine from vectors drawn at random."""
    g = np.random.default_rng(seed).normal(size=(4, LENGTH, 6))
    gram = jnp.einsum("nda,nea->nde", g, g)
    whole = g.sum(axis=1)
    for n in range(4):
      size = whole[n] @ whole[n]
      self.assert_close(
        gradient_by_distance.signed_share(gram)[n], g[n] @ whole[n] / size
      )
      squares = (g[n] ** 2).sum(axis=1)
      self.assert_close(
        gradient_by_distance.norm_share(gram)[n], squares / squares.sum()
      )
      self.assert_close(
        gradient_by_distance.distance_norms(gram)[n], np.sqrt(squares)
      )
      future = g[n, 1:].sum(axis=0)
      cosine = g[n, 0] @ future / np.linalg.norm(future) / np.sqrt(squares[0])
      self.assert_close(
        gradient_by_distance.self_future_cosine(gram)[n], cosine
      )
    share = gradient_by_distance.norm_share(gram)
    self.assert_close(
      gradient_by_distance.future_share(share), share[:, 1:].sum(axis=1)
    )


if __name__ == "__main__":
  absltest.main()
