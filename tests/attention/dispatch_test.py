"""Which fast path runs where, and that `attend` works on the kernels."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
from absl.testing import parameterized
from jax import export

import jaxlook
from jaxlook.attention import blockwise, dispatch, pallas_launch
from tests.fixtures import attention_cases, base


class ChoiceTest(base.TestCase):
  @parameterized.parameters(
    ("gpu", jnp.bfloat16, 512, True),
    ("gpu", jnp.float16, 2048, True),
    ("gpu", jnp.float32, 2048, False),
    ("gpu", jnp.bfloat16, 64, False),
    ("tpu", jnp.float32, 2048, True),
    ("tpu", jnp.float16, 2048, False),
    ("tpu", jnp.float32, 2**15, False),
    ("other", jnp.bfloat16, 2048, False),
  )
  def test_kernels_run_where_they_are_faster(
    self, backend, dtype, length, kernels
  ):
    """The choice depends on dtype, length and a TPU's memory."""
    query = jax.ShapeDtypeStruct((1, length, 2, 64), dtype)
    for name in ("forward", "backward"):
      path = dispatch.accelerator_path(name, backend, query)
      module = pallas_launch if kernels else blockwise
      self.assertIs(path.func, getattr(module, name))

  def test_a_tpu_gets_the_kernels(self):
    """Lowered for a TPU, attention and its gradient call kernels."""
    own = [jax.ShapeDtypeStruct((1, 512, 1, 64), jnp.bfloat16)] * 3

    def loss(*own):
      out = jaxlook.attend(*own, spec="myopic")
      return jnp.sum(out.astype(jnp.float32))

    with mock.patch.object(jax, "default_backend", return_value="tpu"):
      lowered = export.export(
        jax.jit(jax.grad(loss, argnums=(0, 1, 2))), platforms=["tpu"]
      )(*own)
    # Forward, dQ, and the own pair's dK and dV.
    self.assertEqual(lowered.mlir_module().count("@tpu_custom_call"), 3)


class KernelsTest(base.Float64TestCase):
  @parameterized.parameters(
    "causal", "myopic", "horizon:2/residual", "leak:0.3/keys", "teacher"
  )
  def test_law_9_kernels_equal_the_reference(self, spec):
    """Values and gradients agree; the kernels run in interpret mode."""
    arrays = attention_cases.inputs(61, (1, 9, 2, 4))

    def interpreted(name, arrays, static):
      run = getattr(pallas_launch, name)
      return run(*arrays, **static, interpret=True)

    # The cached function has the usual path compiled in, so do not use it.
    run = functools.partial(attention_cases.compute, jaxlook.parse(spec))
    with mock.patch.object(dispatch, "_run", interpreted):
      result = jax.jit(functools.partial(run, implementation="fused"))(arrays)
    self.assert_close(result, run(arrays, implementation="reference"))
