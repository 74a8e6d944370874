"""The fused path equals the definition, and computes less."""

import functools
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxlook
from jaxlook.attention import block_sizes, blockwise
from tests.fixtures import attention_cases, base

# Largest relative rounding error of gradients in float32.
SINGLE = 1e-5


def attend(spec, implementation="fused"):
  """Returns attention under a spec, as a function of query, key and value."""
  return functools.partial(
    jaxlook.attend, spec=spec, implementation=implementation
  )


def gradients(function, arrays):
  """Returns the gradients of a weighted sum of an attention's output."""

  def weighted(query, key, value):
    out = function(query, key, value)
    return jnp.sum(out.astype(jnp.float32) * arrays["weight"])

  own = (arrays["query"], arrays["key"], arrays["value"])
  return jax.grad(weighted, argnums=(0, 1, 2))(*own)


class ExactTest(base.Float64TestCase):
  @parameterized.parameters(
    *base.VARIANTS, "horizon:9", "offset:2/residual/keys", "teacher/keys"
  )
  @settings(max_examples=3, deadline=None)
  @given(seed=st.integers(0, 99))
  def test_law_9_fused_is_the_reference(self, spec, seed):
    """Values and all gradients agree."""
    arrays = attention_cases.inputs(seed, (2, 11, 2, 3))
    self.assert_close(
      attention_cases.value_and_grads(spec, arrays, "fused"),
      attention_cases.value_and_grads(spec, arrays, "reference"),
    )

  @parameterized.parameters("myopic", "horizon:8/residual", "teacher/residual")
  def test_long_sequences(self, spec):
    """They agree also for several panels, the last one padded."""
    arrays = attention_cases.inputs(41, (1, 521, 1, 4))
    self.assert_close(
      attention_cases.value_and_grads(spec, arrays, "fused"),
      attention_cases.value_and_grads(spec, arrays, "reference"),
    )

  @parameterized.parameters(
    {"high": 5, "reach": 2},
    {"low": 1, "reach": 0},
    {"low": 1, "high": 3, "reach": 2},
    {"low": 2, "high": 3, "source": "teacher"},
    {"high": 1, "source": "teacher", "leak": 0.5, "reach": 4},
  )
  def test_fields_that_no_flag_form_sets(self, **fields):
    """A reach combined with a window, and a teacher with a wide window."""
    spec = jaxlook.Spec(name="by hand", **fields)
    arrays = attention_cases.inputs(47, (2, 7, 2, 3))
    if spec.source == "own":
      arrays |= {"other_key": arrays["key"], "other_value": arrays["value"]}
    self.assert_close(
      attention_cases.value_and_grads(spec, arrays, "fused"),
      attention_cases.value_and_grads(spec, arrays, "reference"),
    )

  def test_second_derivatives_are_refused(self):
    """Differentiating twice is an error that names the reference."""
    arrays = attention_cases.inputs(29, (1, 3, 1, 2))

    def slope(query):
      out = attend("causal")
      own = arrays["key"], arrays["value"]
      return jnp.sum(jax.grad(lambda q: jnp.sum(out(q, *own) ** 2))(query))

    with self.assertRaisesRegex(ValueError, "implementation='reference'"):
      jax.grad(slope)(arrays["query"])


class PrecisionTest(base.TestCase):
  @parameterized.parameters(*base.GRADIENT_ONLY)
  def test_the_forward_pass_has_the_same_bits(self, spec):
    """In float32 the output equals that of `causal` to the last bit."""
    arrays = attention_cases.inputs(31, (2, 21, 2, 4))
    out, _ = attention_cases.value_and_grads(spec, arrays, "fused")
    causal, _ = attention_cases.value_and_grads("causal", arrays, "fused")
    self.assert_close(out, causal, atol=0.0)

  @parameterized.parameters(
    ("causal", "float32", 33),
    ("myopic", "float32", 33),
    ("leak:0.3", "float32", 260),
    ("causal", "bfloat16", 33),
    ("causal", "float16", 33),
    ("myopic", "bfloat16", 1),
  )
  def test_single_and_half_precision(self, spec, dtype, length):
    """Errors against float64 are small; half precision errs as `jax.nn`."""
    arrays = attention_cases.inputs(43, (1, length, 1, 8))
    low = {
      name: x.astype(dtype) if name != "weight" else x
      for name, x in arrays.items()
    }
    with jax.enable_x64(True):
      high = {name: x.astype(jnp.float64) for name, x in low.items()}
      exact = [
        np.asarray(x) for x in gradients(attend(spec, "reference"), high)
      ]

    def errors(function):
      found = gradients(function, low)
      return [
        np.linalg.norm(np.float64(x) - y)
        for x, y in zip(found, exact, strict=True)
      ]

    limits = [SINGLE * max(np.linalg.norm(y), 1.0) for y in exact]
    if dtype != "float32":
      library = functools.partial(jax.nn.dot_product_attention, is_causal=True)
      limits = errors(library) if spec == "causal" else None
      rounding = float(jnp.finfo(dtype).eps)
      # `jax.nn` has no such gradients for other variants: use rounding.
      limits = limits or [rounding * np.linalg.norm(y) for y in exact]
    for ours, most in zip(errors(attend(spec)), limits, strict=True):
      self.assertLessEqual(ours, most)

  def test_padding_is_harmless(self):
    """Zeros at the end cause no NaN, get no gradient and change no result."""
    arrays = attention_cases.inputs(53, (1, 9, 2, 4))
    padded = {name: x.at[:, 6:].set(0.0) for name, x in arrays.items()}
    short = {name: x[:, :6] for name, x in arrays.items()}
    for spec in ("causal", "myopic", "horizon:2"):
      out, grads = attention_cases.value_and_grads(spec, padded, "fused")
      expected, expected_grads = attention_cases.value_and_grads(
        spec, short, "fused"
      )
      chex.assert_tree_all_finite((out, grads))
      self.assert_close(out[:, :6], expected, atol=1e-6)
      for name, x in expected_grads.items():
        self.assert_close(grads[name][:, :6], x, atol=1e-6)
        self.assert_close(grads[name][:, 6:], jnp.zeros((1, 3, 2, 4)), atol=0.0)


class WorkTest(base.TestCase):
  @parameterized.parameters(
    ("causal", 7),
    ("myopic", 5),
    ("myopic/keys", 6),
    ("myopic/values", 6),
    ("future_only", 7),
    ("myopic/residual", 7),
  )
  def test_matmuls(self, spec, count):
    """Two matmuls forward, three backward; more only for dK and dV."""
    arrays = attention_cases.inputs(37, (1, 16, 2, 4))
    residual = jaxlook.parse(spec).needs_context

    def weighted(query, key, value, context):
      out = jaxlook.attend(
        query,
        key,
        value,
        spec=spec,
        context=context if residual else None,
        implementation="fused",
      )
      return jnp.sum(out * arrays["weight"])

    own = arrays["query"], arrays["key"], arrays["value"]
    grads = jax.grad(weighted, argnums=(0, 1, 2, 3))
    jaxpr = str(jax.make_jaxpr(grads)(*own, own[1:]))
    self.assertEqual(jaxpr.count("dot_general["), count)

  def test_memory_is_linear(self):
    """Doubling the length at most doubles the program's memory."""

    def needed(length):
      own = [jnp.zeros((1, length, 1, 8))] * 3
      loss = lambda *own: jnp.sum(attend("horizon:8")(*own))  # noqa: E731
      program = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
      memory = program.lower(*own).compile().memory_analysis()
      return memory.temp_size_in_bytes

    self.assertLess(needed(4096), 2.2 * needed(2048))


class TransformedTest(base.TestCase):
  def setUp(self):
    super().setUp()
    # Small limits give several panels and tiles at a short length.
    small = block_sizes.BlockLimits(
      one_panel=4, rows=4, columns=4, long_bytes=300
    )
    for name in ("forward", "backward"):
      function = functools.partial(getattr(blockwise, name), limits=small)
      self.enter_context(mock.patch.object(blockwise, name, function))
    self.arrays = attention_cases.inputs(59, (4, 9, 2, 4))
    self.own = tuple(self.arrays[name] for name in ("query", "key", "value"))

  def loss(self, spec, query, key, value):
    return jnp.sum(attend(spec)(query, key, value) * self.arrays["weight"])

  @parameterized.parameters("causal", "horizon:2", "teacher/residual")
  def test_vmap_over_two_axes(self, spec):
    """`vmap` over seeds and a second axis equals a loop over both."""
    function = functools.partial(attention_cases.compute, jaxlook.parse(spec))
    seeds = [attention_cases.inputs(seed, (1, 9, 2, 4)) for seed in range(4)]
    stacked = jax.tree.map(
      lambda *x: jnp.stack(x).reshape(2, 2, *x[0].shape), *seeds
    )
    run = functools.partial(function, implementation="fused")
    found = jax.jit(jax.vmap(jax.vmap(run)))(stacked)
    run = jax.jit(run)
    for seed, arrays in enumerate(seeds):
      one = jax.tree.map(lambda x, s=seed: x[s // 2, s % 2], found)
      self.assert_close(one, run(arrays), atol=1e-5)

  @parameterized.parameters("causal", "myopic")
  def test_remat_and_scan_over_layers(self, spec):
    """A scan over rematerialized layers equals a plain loop over layers."""

    def layer(x, _):
      out = attend(spec)(x, self.own[1], self.own[2])
      return x + out, None

    def scanned(x):
      return jnp.sum(lax.scan(jax.checkpoint(layer), x, None, length=3)[0])

    def unrolled(x):
      for _ in range(3):
        x, _ = layer(x, None)
      return jnp.sum(x)

    self.assert_close(
      jax.jit(jax.value_and_grad(scanned))(self.own[0]),
      jax.jit(jax.value_and_grad(unrolled))(self.own[0]),
      atol=1e-4,
    )

  @parameterized.parameters(
    ("causal", "batch"), ("myopic", "heads"), ("horizon:2", "batch")
  )
  def test_sharded_over_devices(self, spec, axis):
    """Batch or heads may be sharded, by `shard_map` or by `jit` alone."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("x",))
    where = {
      "batch": PartitionSpec("x"),
      "heads": PartitionSpec(None, None, "x"),
    }
    sharding = NamedSharding(mesh, where[axis])
    given = [jax.device_put(x, sharding) for x in self.own]
    grad = jax.grad(functools.partial(self.loss, spec), argnums=(0, 1, 2))
    expected = jax.jit(grad)(*self.own)
    by_jit = jax.jit(grad, in_shardings=sharding, out_shardings=sharding)
    self.assert_close(by_jit(*given), expected, atol=1e-5)
    weight = jax.device_put(self.arrays["weight"], sharding)

    def local(weight, *own):
      return jax.grad(
        lambda *own: jnp.sum(attend(spec)(*own) * weight), argnums=(0, 1, 2)
      )(*own)

    by_map = jax.jit(
      jax.shard_map(
        local, mesh=mesh, in_specs=where[axis], out_specs=where[axis]
      )
    )
    self.assert_close(by_map(weight, *given), expected, atol=1e-5)
