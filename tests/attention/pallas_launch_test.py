"""The kernels equal the formulas in interpret mode, and lower for devices."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from jax import export
from jax.sharding import (
  AbstractDevice,
  AbstractMesh,
  Mesh,
  PartitionSpec,
  use_abstract_mesh,
)

from jaxlook.attention import pallas_launch
from tests.fixtures import base
from tests.fixtures.attention_formulas import (
  SCALE,
  dense,
  dense_gradients,
  inputs,
  mask,
)

CAUSAL = ((0, 8),)
# Ranges, length, queries and keys per block.
CASES = (
  (((0, 0),), 1, (8, 4)),
  (((0, 6),), 7, (4, 8)),
  (((0, 7),), 8, (8, 4)),
  (CAUSAL, 9, (8, 4)),
  (((0, 3),), 17, (4, 4)),
  (((2, 2),), 9, (8, 4)),
  (((1, 8),), 9, (4, 8)),
  (((0, 1), (4, 8)), 9, (8, 4)),
  (((9, 20),), 9, (8, 4)),
  ((), 9, (8, 4)),
)
# The call that Triton or Mosaic compiles, by JAX's name of the platform.
TARGETS = {"cuda": "__gpu$xla.gpu.triton", "tpu": "tpu_custom_call"}

forward = functools.partial(pallas_launch.forward, scale=SCALE, interpret=True)
backward = functools.partial(
  pallas_launch.backward, scale=SCALE, interpret=True
)


@functools.partial(jax.jit, static_argnames=("ranges", "blocks"))
def both(query, key, value, grad, *, ranges, **options):
  """Returns outputs, log-sum-exps and all gradients."""
  out, lse = forward(query, key, value, ranges=ranges, **options)
  grads = backward(
    *(query, key, value, out, lse, grad),
    ranges=ranges,
    key_ranges=(ranges,),
    value_ranges=(ranges,),
    **options,
  )
  return out, lse, *jax.tree.leaves(grads)


class ExactTest(base.Float64TestCase):
  @parameterized.parameters(*CASES)
  def test_forward_equals_the_formula(self, ranges, length, blocks):
    """Outputs and log-sum-exps agree; 0 and -inf for queries without keys."""
    query, key, value, _ = inputs(length)
    run = functools.partial(forward, ranges=ranges, blocks=blocks)
    out, lse = jax.jit(run)(query, key, value)
    expected_out, expected_lse = dense(query, key, value, ranges)
    self.assert_close(out, expected_out)
    unseeing = ~mask(ranges, length).any(-1)
    np.testing.assert_array_equal(np.isneginf(lse).all((0, 1)), unseeing)
    np.testing.assert_array_equal(out[:, unseeing], 0.0)
    if not unseeing.all():
      self.assert_close(lse[..., ~unseeing], expected_lse[..., ~unseeing])

  @parameterized.parameters(*CASES)
  def test_backward_equals_the_formula(self, ranges, length, blocks):
    """Gradients through changed of the softmax's distances agree."""
    query, key, value, grad = inputs(length)
    whole = dense(query, key, value, ((0, length - 1),))
    arrays = query, key, value, *whole, grad
    result = jax.jit(
      functools.partial(
        backward,
        ranges=ranges,
        key_ranges=(ranges,),
        value_ranges=(ranges,),
        blocks=blocks,
      )
    )(*arrays)
    to_query, to_key, to_value = dense_gradients(*arrays, ranges)
    self.assert_close(result, (to_query, (to_key,), (to_value,)))

  def test_each_gradient_has_its_ranges(self):
    """Gradients of keys and of values come in the order requested."""
    query, key, value, grad = inputs(9)
    arrays = query, key, value, *dense(query, key, value, CAUSAL), grad
    own, band = ((0, 0),), ((0, 3),)
    result = jax.jit(
      functools.partial(
        backward,
        ranges=CAUSAL,
        key_ranges=(band, (), own),
        value_ranges=(own, CAUSAL),
        blocks=(8, 4),
      )
    )(*arrays)
    exact = functools.partial(dense_gradients, *arrays)
    to_keys = exact(band)[1], np.zeros_like(key), exact(own)[1]
    to_values = exact(own)[2], exact(CAUSAL)[2]
    self.assert_close(result, (exact(CAUSAL)[0], to_keys, to_values))

  def test_backward_is_the_derivative_of_softmax(self):
    """Through all distances it equals JAX's derivative."""
    *arrays, grad = inputs(9)

    def plain(query, key, value):
      scores_BxNxTxS = SCALE * jnp.einsum("btnh,bsnh->bnts", query, key)
      scores_BxNxTxS = jnp.where(mask(CAUSAL, 9), scores_BxNxTxS, -jnp.inf)
      att_BxNxTxS = jax.nn.softmax(scores_BxNxTxS)
      return jnp.einsum("bnts,bsnh->btnh", att_BxNxTxS, value)

    expected, derivative = jax.vjp(plain, *arrays)
    out, _, *grads = both(*arrays, grad, ranges=CAUSAL, blocks=(4, 4))
    self.assert_close((out, *grads), (expected, *derivative(grad)))

  @parameterized.parameters(
    (((0, 3),), slice(8, 12), slice(0, 4)),
    (((0, 15),), slice(4, 8), slice(8, 16)),
  )
  def test_blocks_without_visible_keys_are_skipped(
    self, ranges, seeing, unseen
  ):
    """NaNs in skipped blocks do not reach the results."""
    arrays = inputs(16)
    blocks = (4, 4)
    plain = both(*arrays, ranges=ranges, blocks=blocks)
    for broken, positions, kept, results in (
      ((1, 2), unseen, seeing, (0, 2)),
      ((0, 3), seeing, unseen, (3, 4)),
    ):
      changed = arrays.copy()
      changed[broken, :, positions] = np.nan
      actual = both(*changed, ranges=ranges, blocks=blocks)
      unskipped = both(*changed, ranges=ranges, blocks=(16, 16))
      for i in results:
        self.assert_close(actual[i][:, kept], plain[i][:, kept], atol=0.0)
        self.assertTrue(np.isnan(unskipped[i][:, kept]).all())

  @parameterized.parameters(
    ((), (), 3),
    ((), (CAUSAL,), 5),
    ((CAUSAL,), (), 6),
    ((CAUSAL,), (CAUSAL,), 7),
    ((CAUSAL, ()), (((0, 0),),), 8),
    (((),), ((),), 3),
  )
  def test_only_requested_gradients_are_computed(self, keys, values, n):
    """Three matmuls per tile for queries unseeing; none for empty ranges."""
    query, key, value, grad = inputs(9)
    run = functools.partial(
      backward,
      ranges=CAUSAL,
      key_ranges=keys,
      value_ranges=values,
    )
    lse = jnp.zeros((2, 2, 9))
    arrays = query, key, value, query, lse, grad
    jaxpr = str(jax.make_jaxpr(run)(*arrays))
    self.assertEqual(jaxpr.count("dot_general["), n)
    result = jax.eval_shape(run, *arrays)
    self.assertEqual((len(result[1]), len(result[2])), (len(keys), len(values)))

  def test_vmap_is_a_loop(self):
    """`vmap` over two axes equals a loop; queries lack one of the axes."""
    query, key, value, grad = (
      x.reshape(2, 2, 2, 9, 2, 3) for x in inputs(9, batch=8)
    )
    run = functools.partial(both, ranges=((0, 3),), blocks=(8, 4))
    inner = jax.vmap(run, in_axes=(None, 0, 0, 0))
    all_pairs = jax.vmap(inner)(query[:, 0], key, value, grad)
    for i, j in np.ndindex(2, 2):
      one = run(query[i, 0], key[i, j], value[i, j], grad[i, j])
      self.assert_close(jax.tree.map(lambda x: x[i, j], all_pairs), one)  # noqa: B023

  def test_scan_and_shard_map(self):
    """Results are the same inside a scan inside `shard_map`."""
    arrays = inputs(9)
    run = functools.partial(both, ranges=((0, 3),), blocks=(8, 4))
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("batch",))
    split = PartitionSpec("batch")

    @jax.jit
    @functools.partial(
      jax.shard_map, mesh=mesh, in_specs=split, out_specs=split
    )
    def scanned(*arrays):
      _, results = jax.lax.scan(lambda _, xs: ((), run(*xs)), (), arrays)
      return results

    one = jax.tree.map(lambda x: x[None], run(*arrays))
    both_devices = scanned(*(np.stack([x, x]) for x in arrays))
    self.assert_close(both_devices, jax.tree.map(lambda x: x.repeat(2, 0), one))


class DtypeTest(base.TestCase):
  @parameterized.parameters(("float32", 1e-5), ("bfloat16", 0.05))
  def test_rounding(self, dtype, atol):
    """Results are float32 and as exact as the inputs' dtype allows."""
    arrays = [jnp.asarray(x, dtype) for x in inputs(17)]
    results = both(*arrays, ranges=((0, 5),), blocks=(8, 8))
    *exact, grad = (np.asarray(x, np.float64) for x in arrays)
    expected = dense(*exact, ((0, 5),))
    grads = dense_gradients(*exact, *expected, grad, ((0, 5),))
    for actual, close in zip(results, (*expected, *grads), strict=True):
      self.assertEqual(actual.dtype, np.float32)
      np.testing.assert_allclose(actual, close, rtol=0.0, atol=atol)

  def test_large_scores(self):
    """Scores beyond the range of exp neither overflow nor vanish."""
    query, key, value, grad = inputs(9, np.float32)
    results = both(200 * query, 200 * key, value, grad, ranges=((1, 8),))
    for x in results[2:]:
      self.assertTrue(np.isfinite(x).all())
    out, lse, *_ = results
    np.testing.assert_array_equal(out[:, 0], 0.0)
    self.assertTrue(np.isneginf(lse[..., 0]).all())
    self.assertTrue(np.isfinite(lse[..., 1:]).all())
    self.assertGreater(float(lse[..., 1:].max()), 1000.0)

  @parameterized.parameters(("tpu", "float16"), ("tpu", "float64"))
  def test_unsupported_dtypes_are_refused(self, platform, dtype):
    """The error comes before the compiler runs."""
    x = jax.ShapeDtypeStruct((1, 4, 1, 8), dtype)
    run = functools.partial(
      pallas_launch.forward, ranges=((0, 3),), scale=1.0, platform=platform
    )
    with jax.enable_x64(True):
      with self.assertRaisesRegex(
        ValueError, f"{dtype} has no .* kernels on {platform}"
      ):
        jax.eval_shape(run, x, x, x)


class LoweringTest(base.TestCase):
  @parameterized.product(
    target=("cuda", "tpu"),
    dtype=("float32", "bfloat16"),
    shape=((1, 1, 1, 8), (2, 300, 2, 80)),
  )
  def test_lowers_without_the_device(self, target, dtype, shape):
    """Every kernel lowers to a call of the platform's compiler."""
    batch, length, heads, _ = shape
    platform = "gpu" if target == "cuda" else "tpu"
    ranges = ((0, length - 1),)

    @jax.vmap
    def run(query, key, value, grad):
      out, lse = pallas_launch.forward(
        query, key, value, ranges=ranges, scale=SCALE, platform=platform
      )
      return backward(
        *(query, key, value, out, lse, grad),
        ranges=ranges,
        key_ranges=(ranges, ((0, 0),)),
        value_ranges=(ranges,),
        platform=platform,
        interpret=False,
      )

    x = jax.ShapeDtypeStruct((3, *shape), dtype)
    check = export.DisabledSafetyCheck.custom_call(TARGETS[target])
    # JAX 0.11 needs the GPU's name for Triton, and warns that Triton will go.
    device = AbstractDevice("NVIDIA H100", None, "gpu")
    mesh = AbstractMesh((1,), ("device",), abstract_device=device)
    with warnings.catch_warnings(), use_abstract_mesh(mesh):
      warnings.filterwarnings("ignore", ".*Triton.*", DeprecationWarning)
      exported = export.export(
        jax.jit(run), platforms=[target], disabled_checks=[check]
      )(x, x, x, x)
    calls = exported.mlir_module().count(f"@{TARGETS[target]}(")
    # Forward, queries, and one for each set of keys and values; where there is
    # one position, its two sets are the same.
    self.assertEqual(calls, 3 if length == 1 else 4)
