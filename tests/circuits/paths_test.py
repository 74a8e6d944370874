"""Path terms sum to the logits; a virtual head built by hand is found."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook import models
from jaxlook.circuits import paths, term_losses
from jaxlook.models import Decoder, DecoderConfig
from jaxlook.tasks.losses import cross_entropy
from jaxlook.tasks.task import Batch
from tests.fixtures import base
from tests.fixtures.random_models import CONFIG, perturbed_init, tokens


class _NextToken:
  """A task with the loss of the text task, without a text."""

  def batch(self, key, size, fed):
    raise NotImplementedError

  def loss(self, outputs, batch):
    return cross_entropy(outputs, batch.targets)


class PathsTest(base.Float64TestCase):
  @parameterized.parameters(
    (2, "learned", "myopic/residual"),
    (3, "rotary", "causal,self_only,window:1"),
  )
  def test_orders_are_sums_of_paths_and_sum_to_the_logits(
    self, layers, positions, variant
  ):
    """Holds for random models with random biases, for all forward passes."""
    config = dataclasses.replace(
      CONFIG,
      layers=layers,
      width=8,
      positions=positions,
      tied_head=positions == "learned",
    )
    decoder = Decoder(config, variant)

    @jax.jit
    def multiply_out(params, inputs):
      frozen = paths.freeze(decoder, params, inputs)
      virtual = [
        paths.virtual_head(frozen, (early, m), (late, n))
        for late in range(layers)
        for early in range(late)
        for m in range(2)
        for n in range(2)
      ]
      return (
        paths.order_terms(frozen),
        paths.order_logits(frozen)[-1],
        paths.layer_terms(frozen),
        paths.path_terms(frozen),
        sum(virtual),
        models.apply(decoder, params, inputs),
      )

    orders, last, split, terms, virtual, logits = jax.tree.map(
      np.asarray, multiply_out(perturbed_init(config), tokens(config))
    )
    self.assert_close(last, logits)
    self.assert_close(orders[0], terms.direct + terms.bias)
    self.assert_close(orders[1], terms.heads.sum((0, 1)))
    self.assert_close(split, terms.heads.sum(1))
    self.assert_close(orders[2], virtual)
    for term in orders:
      self.assertGreater(np.abs(term).max(), 1e-3)

  def test_float32(self):
    """In float32 the terms sum to the logits up to rounding."""
    params = jax.tree.map(
      lambda x: np.asarray(x, np.float32), perturbed_init(CONFIG)
    )
    inputs = np.asarray(tokens(CONFIG), np.int32)

    @jax.jit
    def both(params, inputs):
      frozen = paths.freeze(Decoder(CONFIG), params, inputs)
      logits = models.apply(Decoder(CONFIG), params, inputs)
      return paths.order_logits(frozen)[-1], logits

    with jax.enable_x64(False):
      found, logits = both(params, inputs)
    self.assertEqual(found.dtype, jnp.float32)
    np.testing.assert_allclose(found, logits, atol=1e-5)

  def test_a_virtual_head_built_by_hand(self):
    """Head one copies tokens to a subspace that only head two reads.

    Neither head alone changes a logit: the unembedding does not read what head
    one writes, and head two does not read the embeddings.
    """
    config = DecoderConfig(
      2, 16, 1, 6, vocab_size=4, mlp_width=0, positions="none", tied_head=False
    )
    shapes = jax.eval_shape(
      lambda key: models.init(config, key), jax.random.key(0)
    )
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    # Each token is a direction with mean zero, in one of two planes.
    first = np.hstack([np.eye(4), -np.eye(4), np.zeros((4, 8))])
    second = np.roll(first, 8, axis=1)
    shift = np.roll(np.eye(4), 1, axis=1)
    params["token_embedding"]["embedding"] = jnp.asarray(first)
    params["head"]["kernel"] = jnp.asarray(first.T)
    for norm in (
      params["final_norm"],
      *(params[f"block_{layer}"]["attention_norm"] for layer in (0, 1)),
    ):
      norm["scale"] = jnp.ones(16)
    # Queries are zero, so all heads attend evenly.
    for layer, moves in enumerate((first.T @ second, second.T @ shift @ first)):
      attention = params[f"block_{layer}"]["attention"]
      attention["value"]["kernel"] = jnp.asarray(moves)
      attention["out"]["kernel"] = jnp.eye(16)
    inputs = np.array([[2, 0, 0, 3, 1, 2]])

    @jax.jit
    def multiply_out(params):
      frozen = paths.freeze(Decoder(config), params, jnp.asarray(inputs))
      virtual = paths.virtual_head(frozen, (0, 0), (1, 0))
      return paths.path_terms(frozen), virtual

    def mean_so_far(x):
      return np.cumsum(x, axis=0) / np.arange(1, 7)[:, None]

    def deviation(x):
      return np.sqrt(x.var(axis=1, keepdims=True) + config.norm_epsilon)

    token = np.eye(4)[inputs[0]]
    x = token @ first
    # The squared norm of each direction is 2.
    one = 2 * mean_so_far(token / deviation(x))
    x = x + one @ second
    two = 2 * mean_so_far(one / deviation(x)) @ shift
    x = x + two @ first
    terms, virtual = multiply_out(params)
    self.assert_close(virtual[0], 2 * two / deviation(x))
    self.assert_close(terms.direct[0], 2 * token / deviation(x))
    self.assert_close(terms.heads, np.zeros((2, 1, 1, 6, 4)))

  @parameterized.parameters(
    ({"mlp_width": 4}, "causal", "^hidden_width must be 0, not 4"),
    ({"output_features": 3}, "causal", "^paths lead from tokens to logits"),
    ({}, "zero_context", "^attention zero_context does not read the model's"),
  )
  def test_refuses_what_is_no_sum_over_paths(self, fields, variant, message):
    config = dataclasses.replace(CONFIG, **fields)
    with self.assertRaisesRegex(ValueError, message):
      paths.freeze(Decoder(config, variant), {}, tokens(config))

  def test_virtual_heads_go_forward(self):
    frozen = paths.Frozen(*[jnp.zeros((2, 1))] * 3, None, None, None)
    with self.assertRaisesRegex(ValueError, "of 2 layers; got layers 1 and 1"):
      paths.virtual_head(frozen, (1, 0), (1, 1))


class TermLossesTest(base.Float64TestCase):
  def test_losses_of_known_logits(self):
    """The last order is the model; of two layers, alone = without the other."""
    params, inputs = perturbed_init(CONFIG), tokens(CONFIG)
    batch = Batch(inputs, inputs[:, ::-1])
    decoder, task = Decoder(CONFIG), _NextToken()

    @jax.jit
    def both(params, batch):
      frozen = paths.freeze(decoder, params, batch.inputs)
      direct, single, virtual = paths.order_terms(frozen)
      early, late = paths.layer_terms(frozen)
      # Only the diagonal of the patterns.
      share = jnp.diagonal(frozen.patterns, axis1=-2, axis2=-1)
      wide = share[..., None] * jnp.eye(share.shape[-1])[None, None, None]
      _, own, twice = paths.order_terms(frozen._replace(patterns=wide))
      expected = [
        task.loss(logits, batch).mean()
        for logits in (
          direct,
          direct + single,
          direct + single + virtual,
          direct + early,
          direct + late,
          direct + own,
          direct + single + twice,
        )
      ]
      found = term_losses.term_losses(decoder, task, params, batch, chunk=3)
      return found, jnp.stack(expected)

    found, expected = jax.tree.map(np.asarray, both(params, batch))
    self.assert_close(found.orders, expected[:3])
    self.assert_close(found.alone, expected[3:5])
    self.assert_close(found.without, expected[4:2:-1])
    self.assert_close(found.own, expected[5:])
    self.assert_close(found.marginal, expected[:2] - expected[1:3])
    self.assert_close(
      found.marginal_own + found.marginal_before, found.marginal
    )
    self.assertGreater(np.abs(found.marginal_before).min(), 1e-6)
    self.assert_close(found.layer_alone, expected[:1] - expected[3:5])
    self.assert_close(found.layer_on_top, expected[4:2:-1] - expected[1:2])


if __name__ == "__main__":
  absltest.main()
