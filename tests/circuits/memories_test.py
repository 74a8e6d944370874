"""Memories of a hand-built model are found; a layer's parts add up."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from jaxlook import interventions
from jaxlook.circuits import memories, memory_study
from jaxlook.circuits.memory_study import agreement_name, ending_name
from jaxlook.circuits.memory_values import KINDS
from jaxlook.models import Decoder, DecoderConfig, init, residual_site
from tests.fixtures import base
from tests.fixtures.random_models import perturbed_init, tokens

SMALL = DecoderConfig(
  layers=2, width=4, heads=2, max_length=3, vocab_size=5, mlp_width=3
)
SHAPES = {
  "gpt2": SMALL,
  "neox": dataclasses.replace(
    SMALL, positions="rotary", parallel_residual=True, tied_head=False
  ),
}

# Token 2 is always followed by 4, token 0 by 3.
ROWS = [[2, 4, 1, 0, 3, 1], [1, 2, 4, 0, 3, 3], [4, 0, 3, 2, 4, 3]]
BUILT = DecoderConfig(
  layers=1,
  width=6,
  heads=1,
  max_length=5,
  vocab_size=5,
  mlp_width=4,
  activation="relu",
  positions="none",
  tied_head=False,
)


def built():
  """A model that predicts 4 after token 2, and 1 after token 0.

  Two more neurons never fire; the value of one of them predicts 3. The layer's
  bias favours 3.
  """
  params = jax.tree.map(jnp.zeros_like, init(BUILT, jax.random.key(0)))
  for norm in (params["final_norm"], params["block_0"]["mlp_norm"]):
    norm["scale"] = jnp.ones(6)
  # Width 6 for 5 tokens: the last dimension matters only for norms.
  one_hot = jnp.eye(6)[:5]
  params["token_embedding"]["embedding"] = one_hot
  params["head"]["kernel"] = one_hot.T
  mlp = params["block_0"]["mlp"]
  mlp["up"]["kernel"] = mlp["up"]["kernel"].at[2, 0].set(1.0).at[0, 1].set(1.0)
  mlp["up"]["bias"] = jnp.array([-1.0, -1.0, -9.0, -9.0])
  down = mlp["down"]["kernel"]
  down = down.at[0, 4].set(6.0).at[1, 1].set(5.0).at[2, 3].set(1.0)
  mlp["down"]["kernel"] = down
  mlp["down"]["bias"] = 0.1 * jnp.eye(6)[3]
  return params


class BuiltTest(base.Float64TestCase):
  def test_known_memories(self):
    """One of two live neurons predicts the token after its trigger."""
    windows = np.array(ROWS * 2)
    setup = memory_study.MemorySetup(windows=9, batch=2, top=3, tokens=1)
    text = memory_study.streamed_text(windows[:, :-1], windows[:, 1:], setup)
    np.testing.assert_array_equal(text.counted.reshape(6, 5)[3:], False)
    params = jax.tree.map(lambda x: x[None], built())
    found = memory_study.measure_memories(Decoder(BUILT), params, text, setup)

    where = found.triggers
    np.testing.assert_array_equal(where.window[0, 0, :2], [[0, 1, 2]] * 2)
    np.testing.assert_array_equal(
      where.position[0, 0, :2], [[0, 1, 3], [3, 3, 1]]
    )
    self.assertEqual(where.fired.sum(), 6)
    np.testing.assert_array_equal(found.values.token[0, 0, :2, 0], [4, 1])
    np.testing.assert_array_equal(found.following[0, 0, :2], [[4] * 3, [3] * 3])

    expected = {
      memory_study.LIVE: 1 / 2,
      agreement_name("first"): 1 / 2,
      agreement_name("mean"): 1 / 2,
      agreement_name("any", memory_study.OTHERS): 0.0,
      # Which is 3.
      agreement_name("first", memory_study.COMMONEST): 1 / 2,
      ending_name(1, "coverage"): 1.0,
      ending_name(1, "number"): 1.0,
      ending_name(2, "coverage"): 0.0,
      # All different for token 2, twice (4, 0) for token 0.
      ending_name(2, "purity"): (1 / 3 + 2 / 3) / 2,
      # Of 15 positions, 3 hold token 2 and 3 hold token 0.
      memories.ACTIVE: 6 / 15 / 4,
      memories.EFFECTIVE: 6 / 15,
      memories.COMPOSED: 9 / 15,
      memories.FF: 6 / 15,
      # At other positions the bias predicts 3; token 3 stays the output there.
      memories.BOTH: 3 / 15,
      memories.RESIDUAL: 6 / 15,
      memories.NEITHER: 0.0,
      memories.RESIDUAL_FINAL: 9 / 15,
      memories.FF_FINAL: 9 / 15,
    }
    for name, value in expected.items():
      self.assert_close(found.by_layer[name], np.array([[value]]))
    # A tenth of four values rounds up to one: the larger, which agrees.
    best = memory_study.confident_name("first")
    self.assert_close(found.overall[best], np.array([1.0]))

  def test_controls_are_of_other_neurons(self):
    """Each value predicts the token after its own trigger, not others'."""
    # Neuron n fires at token n and predicts n + 1, which always follows.
    windows = (np.arange(9)[:, None] + np.arange(6)) % 5
    setup = memory_study.MemorySetup(windows=9, batch=2, top=3, tokens=1)
    text = memory_study.streamed_text(windows[:, :-1], windows[:, 1:], setup)
    params, one_hot = built(), jnp.eye(6)
    params["block_0"]["mlp"] = {
      "up": {"kernel": one_hot[:, :4], "bias": jnp.full(4, -1.0)},
      "down": {"kernel": one_hot[1:5], "bias": jnp.zeros(6)},
    }
    params = jax.tree.map(lambda x: x[None], params)
    found = memory_study.measure_memories(Decoder(BUILT), params, text, setup)
    expected = {memory_study.LIVE: 1.0, memory_study.RANK: 0.0} | {
      agreement_name(kind, whose): share
      for kind in KINDS
      for whose, share in ((memory_study.OWN, 1.0), (memory_study.OTHERS, 0.0))
    }
    # All other tokens tie behind the value's own token: rank 2 of 5.
    expected[memory_study.RANK_OTHERS] = 1 / 4
    for name, value in expected.items():
      self.assert_close(found.by_layer[name], np.array([[value]]))

  def test_chance_is_that_of_random_prefixes(self):
    """Prefixes 0, 00, 1 and 10: three end in 0; endings of two all differ.

    Three draws with the same ending are a pattern. Equal prefixes count once.
    """
    windows = np.array([[0, 0, 1], [1, 0, 1], [1, 0, 1]])
    setup = memory_study.MemorySetup(windows=3, batch=1)
    text = memory_study.streamed_text(windows[:, :-1], windows[:, 1:], setup)
    chance = memory_study.random_patterns(text, 3)
    all_0, all_1 = (3 / 4) ** 3, (1 / 4) ** 3
    expected = {
      ending_name(1, "coverage"): all_0 + all_1,
      ending_name(1, "number"): all_0 + all_1,
      ending_name(1, "purity"): 2 / 3 + (all_0 + all_1) / 3,
      ending_name(2, "coverage"): 4 * all_1,
    }
    for name, value in expected.items():
      # The tolerance is four standard errors of 2048 draws.
      self.assertAlmostEqual(chance[name], value, delta=4 * 0.5 / 2048**0.5)

  def test_no_batch(self):
    """Too little text for one batch is refused."""
    setup = memory_study.MemorySetup(batch=4)
    with self.assertRaisesRegex(ValueError, "has 3 held-out windows; .* 4"):
      memory_study.streamed_text(np.ones((3, 2)), np.ones((3, 2)), setup)


class FeedForwardTest(base.Float64TestCase):
  @parameterized.parameters(*SHAPES)
  def test_residual_is_the_stream_without_the_layer(self, family):
    """The residual equals the stream of a model whose FF layer writes 0."""
    config = SHAPES[family]
    params, inputs = perturbed_init(config), tokens(config)
    decoder = Decoder(config)
    neurons, residual, ff, out = jax.jit(
      memories.feed_forward, static_argnums=0
    )(decoder, params, inputs)
    self.assertEqual(neurons.shape, (2, 3, 3, 3))
    sites = [residual_site(config, layer) for layer in (1, 2)]
    streams = jax.jit(
      lambda params: interventions.capture(decoder, params, inputs, sites)[1]
    )
    for layer in range(2):
      block = params[f"block_{layer}"]
      silent = jax.tree.map(jnp.zeros_like, block["mlp"]["down"])
      without = params | {
        f"block_{layer}": block | {"mlp": block["mlp"] | {"down": silent}}
      }
      for given, expected in ((without, residual), (params, out)):
        self.assert_close(expected[layer], streams(given)[sites[layer]])
    self.assert_close(residual + ff, out)


if __name__ == "__main__":
  absltest.main()
