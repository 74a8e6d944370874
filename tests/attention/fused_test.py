"""The fused path against the definition, and what makes it cheap."""

import jax
import jax.numpy as jnp
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxlook
from jaxlook.attention import fused
from tests import base
from tests.attention import common


class FusedTest(base.Float64TestCase):
  @parameterized.parameters(
    *base.GRADIENT_ONLY, "horizon:9", "window:2", "self_only"
  )
  @settings(max_examples=6, deadline=None)
  @given(
    batch=st.integers(1, 2),
    length=st.sampled_from([1, 2, 11, 21]),
    heads=st.integers(1, 2),
    seed=st.integers(0, 99),
  )
  def test_law_9_fused_is_the_reference(self, spec, batch, length, heads, seed):
    """Values and all gradients agree, by shifts and by mask (11, 21)."""
    arrays = common.inputs(seed, (batch, length, heads, 3))
    self.assert_close(
      common.value_and_grads(spec, arrays, "fused"),
      common.value_and_grads(spec, arrays, "reference"),
    )

  @parameterized.parameters(
    {"high": 5, "reach": 2},
    {"low": 1, "reach": 0},
    {"low": 1, "high": 3, "reach": 2},
  )
  def test_windows_within_a_reach(self, **fields):
    """A gradient window counts only where the forward pass sees."""
    spec = jaxlook.Spec(name="by hand", **fields)
    arrays = common.inputs(47, (2, 7, 2, 3))
    arrays |= {"other_key": arrays["key"], "other_value": arrays["value"]}
    self.assert_close(
      common.value_and_grads(spec, arrays, "fused"),
      common.value_and_grads(spec, arrays, "reference"),
    )

  @parameterized.parameters(*base.GRADIENT_ONLY)
  def test_corrections_are_zero_to_the_last_bit(self, spec):
    """In float32, too, the forward value is exactly that of causal."""
    with jax.enable_x64(False):
      arrays = common.inputs(31, (2, 21, 2, 4))
      out, _ = common.value_and_grads(spec, arrays, "fused")
      causal, _ = common.value_and_grads("causal", arrays, "fused")
      self.assert_close(out, causal, atol=0.0)

  def test_myopic_never_forms_the_context_gradients(self):
    """Its backward pass has two of causal's matmuls fewer: dK and dV."""
    arrays = common.inputs(37, (2, 16, 2, 4))

    def matmuls(spec):
      def weighted(query, key, value):
        out = jaxlook.attend(query, key, value, spec=spec)
        return jnp.sum(out * arrays["weight"])

      own = (arrays["query"], arrays["key"], arrays["value"])
      jaxpr = jax.make_jaxpr(jax.grad(weighted, argnums=(0, 1, 2)))(*own)
      return str(jaxpr).count("dot_general[")

    self.assertEqual(matmuls("causal"), 6)
    self.assertEqual(matmuls("myopic"), 4)

  @parameterized.parameters("zero_context", "teacher")
  def test_other_contexts_are_refused(self, spec):
    """A context of other values has no zero-valued correction."""
    self.assertFalse(fused.supports(jaxlook.parse(spec)))
    x = jnp.ones((1, 2, 1, 2))
    with self.assertRaisesRegex(ValueError, "differs in value"):
      fused.attend_fused(
        x, x, x, spec=jaxlook.parse(spec), context=(x, x), scale=1.0
      )
