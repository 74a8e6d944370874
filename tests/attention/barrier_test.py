"""A barrier hides early keys from late queries, on every path."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

import jaxlook
from jaxlook import interventions, models
from jaxlook.attention import masks
from jaxlook.models import Decoder, DecoderConfig
from tests.fixtures import attention_cases, base
from tests.fixtures.random_models import perturbed_init

SHAPE = (2, 7, 2, 3)
SPECS = ("causal", "myopic/residual", "horizon:2", "window:2", "zero_context")


class AttendTest(base.Float64TestCase):
  @parameterized.parameters(*SPECS)
  def test_paths_agree(self, spec):
    """The fused path, which slices, equals the reference, which masks."""
    arrays = attention_cases.inputs(0, SHAPE)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def run(path, barrier):
      return attention_cases.compute(jaxlook.parse(spec), arrays, path, barrier)

    for barrier in ((4, 3), (3, 3), (5, 0)):
      self.assert_close(run("fused", barrier), run("reference", barrier))
    self.assert_close(run("fused", (7, 3)), run("fused", None))

  def test_hidden_keys_are_not_read(self):
    """Queries behind the barrier give early keys no gradient."""
    query, key, value = jax.random.normal(jax.random.key(0), (3, *SHAPE))

    def late(value):
      out = jaxlook.attend(query, key, value, spec="causal", barrier=(5, 4))
      return jnp.sum(out[:, 5:] ** 2)

    size = np.abs(jax.jit(jax.grad(late))(value)).max(axis=(0, 2, 3))
    np.testing.assert_array_equal(size > 0, np.arange(7) >= 4)

  def test_a_hidden_own_key_is_refused(self):
    """A barrier that hides a query's own key is an error."""
    arrays = jnp.zeros((3, *SHAPE))
    with self.assertRaisesRegex(ValueError, r"barrier \(3, 4\) must"):
      jaxlook.attend(*arrays, spec="causal", barrier=(3, 4))


class DecoderTest(base.Float64TestCase):
  def test_patterns_and_logits(self):
    """Patterns are 0 behind the barrier; both paths give the same logits."""
    config = DecoderConfig(2, 8, 2, max_length=7, vocab_size=5)
    params = perturbed_init(config)
    tokens = jax.random.randint(jax.random.key(1), (2, 7), 0, 5)
    decoder = Decoder(config, "myopic/residual", barrier=(4, 3))
    sites = [f"block_{layer}/attention/pattern" for layer in range(2)]
    slow, seen = jax.jit(
      lambda: interventions.capture(decoder, params, tokens, sites)
    )()
    hidden = ~masks.visible(jaxlook.parse("causal"), 7, (4, 3))
    for site in sites:
      pattern = np.asarray(seen[site])
      self.assertEqual(pattern[:, :, hidden].max(), 0.0)
      self.assertGreater(pattern[:, :, ~hidden].min(), 0.0)
    fast = jax.jit(lambda: models.apply(decoder, params, tokens))()
    self.assert_close(slow, fast)
    plain = jax.jit(lambda: models.apply(Decoder(config), params, tokens))()
    self.assertGreater(np.abs(plain - fast)[:, 4:].max(), 1e-6)
