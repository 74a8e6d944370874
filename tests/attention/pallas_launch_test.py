"""The kernels, run as plain JAX, against the formulas; that they lower."""

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
# Set, length, blocks of queries and of keys.
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
# What Triton and Mosaic compile, by the name of the platform in JAX.
TARGETS = {"cuda": "__gpu$xla.gpu.triton", "tpu": "tpu_custom_call"}

forward = functools.partial(pallas_launch.forward, scale=SCALE, interpret=True)
backward = functools.partial(
  pallas_launch.backward, scale=SCALE, interpret=True
)


@functools.partial(jax.jit, static_argnames=("pairs", "blocks"))
def both(query, key, value, grad, *, pairs, **options):
  """Outputs, log-sum-exps and all gradients through one set."""
  out, lse = forward(query, key, value, pairs=pairs, **options)
  grads = backward(
    *(query, key, value, out, lse, grad),
    pairs=pairs,
    key_pairs=(pairs,),
    value_pairs=(pairs,),
    **options,
  )
  return out, lse, *jax.tree.leaves(grads)


class ExactTest(base.Float64TestCase):
  @parameterized.parameters(*CASES)
  def test_forward_is_the_formula(self, pairs, length, blocks):
    """Outputs and log-sum-exps agree; 0 and -inf for rows without a pair."""
    query, key, value, _ = inputs(length)
    run = functools.partial(forward, pairs=pairs, blocks=blocks)
    out, lse = jax.jit(run)(query, key, value)
    expected_out, expected_lse = dense(query, key, value, pairs)
    self.assert_close(out, expected_out)
    alone = ~mask(pairs, length).any(-1)
    np.testing.assert_array_equal(np.isneginf(lse).all((0, 1)), alone)
    np.testing.assert_array_equal(out[:, alone], 0.0)
    if not alone.all():
      self.assert_close(lse[..., ~alone], expected_lse[..., ~alone])

  @parameterized.parameters(*CASES)
  def test_backward_is_the_formula(self, pairs, length, blocks):
    """Gradients through a part of the pairs of the softmax agree."""
    query, key, value, grad = inputs(length)
    whole = dense(query, key, value, ((0, length - 1),))
    arrays = query, key, value, *whole, grad
    result = jax.jit(
      functools.partial(
        backward,
        pairs=pairs,
        key_pairs=(pairs,),
        value_pairs=(pairs,),
        blocks=blocks,
      )
    )(*arrays)
    to_query, to_key, to_value = dense_gradients(*arrays, pairs)
    self.assert_close(result, (to_query, (to_key,), (to_value,)))

  def test_each_gradient_has_its_set(self):
    """Gradients of keys and of values come in the order of their sets."""
    query, key, value, grad = inputs(9)
    arrays = query, key, value, *dense(query, key, value, CAUSAL), grad
    own, band = ((0, 0),), ((0, 3),)
    result = jax.jit(
      functools.partial(
        backward,
        pairs=CAUSAL,
        key_pairs=(band, (), own),
        value_pairs=(own, CAUSAL),
        blocks=(8, 4),
      )
    )(*arrays)
    exact = functools.partial(dense_gradients, *arrays)
    to_keys = exact(band)[1], np.zeros_like(key), exact(own)[1]
    to_values = exact(own)[2], exact(CAUSAL)[2]
    self.assert_close(result, (exact(CAUSAL)[0], to_keys, to_values))

  def test_backward_is_the_derivative(self):
    """Through all pairs, it is what JAX derives from softmax attention."""
    *arrays, grad = inputs(9)

    def plain(query, key, value):
      scores_BxNxTxS = SCALE * jnp.einsum("btnh,bsnh->bnts", query, key)
      scores_BxNxTxS = jnp.where(mask(CAUSAL, 9), scores_BxNxTxS, -jnp.inf)
      att_BxNxTxS = jax.nn.softmax(scores_BxNxTxS)
      return jnp.einsum("bnts,bsnh->btnh", att_BxNxTxS, value)

    expected, derivative = jax.vjp(plain, *arrays)
    out, _, *grads = both(*arrays, grad, pairs=CAUSAL, blocks=(4, 4))
    self.assert_close((out, *grads), (expected, *derivative(grad)))

  @parameterized.parameters(
    (((0, 3),), slice(8, 12), slice(0, 4)),
    (((0, 15),), slice(4, 8), slice(8, 16)),
  )
  def test_blocks_without_pairs_are_not_visited(self, pairs, seeing, unseen):
    """What is not a number there never meets a zero weight to multiply."""
    arrays = inputs(16)
    blocks = (4, 4)
    plain = both(*arrays, pairs=pairs, blocks=blocks)
    for broken, positions, kept, results in (
      ((1, 2), unseen, seeing, (0, 2)),
      ((0, 3), seeing, unseen, (3, 4)),
    ):
      some = arrays.copy()
      some[broken, :, positions] = np.nan
      actual = both(*some, pairs=pairs, blocks=blocks)
      met = both(*some, pairs=pairs, blocks=(16, 16))
      for i in results:
        self.assert_close(actual[i][:, kept], plain[i][:, kept], atol=0.0)
        self.assertTrue(np.isnan(met[i][:, kept]).all())

  @parameterized.parameters(
    ((), (), 3),
    ((), (CAUSAL,), 5),
    ((CAUSAL,), (), 6),
    ((CAUSAL,), (CAUSAL,), 7),
    ((CAUSAL, ()), (((0, 0),),), 8),
    (((),), ((),), 3),
  )
  def test_only_what_is_wanted_is_formed(self, keys, values, n):
    """The matmuls a tile: three for queries only, none for empty sets."""
    query, key, value, grad = inputs(9)
    run = functools.partial(
      backward,
      pairs=CAUSAL,
      key_pairs=keys,
      value_pairs=values,
    )
    lse = jnp.zeros((2, 2, 9))
    arrays = query, key, value, query, lse, grad
    jaxpr = str(jax.make_jaxpr(run)(*arrays))
    self.assertEqual(jaxpr.count("dot_general["), n)
    result = jax.eval_shape(run, *arrays)
    self.assertEqual((len(result[1]), len(result[2])), (len(keys), len(values)))

  def test_vmap_is_a_loop(self):
    """Over two axes, one of which the queries do not have."""
    query, key, value, grad = (
      x.reshape(2, 2, 2, 9, 2, 3) for x in inputs(9, batch=8)
    )
    run = functools.partial(both, pairs=((0, 3),), blocks=(8, 4))
    inner = jax.vmap(run, in_axes=(None, 0, 0, 0))
    together = jax.vmap(inner)(query[:, 0], key, value, grad)
    for i, j in np.ndindex(2, 2):
      one = run(query[i, 0], key[i, j], value[i, j], grad[i, j])
      self.assert_close(jax.tree.map(lambda x: x[i, j], together), one)  # noqa: B023

  def test_scan_and_shard_map(self):
    """Inside both, the results are the same."""
    arrays = inputs(9)
    run = functools.partial(both, pairs=((0, 3),), blocks=(8, 4))
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
    """Results are float32, as close as the dtype of the inputs allows."""
    arrays = [jnp.asarray(x, dtype) for x in inputs(17)]
    results = both(*arrays, pairs=((0, 5),), blocks=(8, 8))
    *exact, grad = (np.asarray(x, np.float64) for x in arrays)
    expected = dense(*exact, ((0, 5),))
    grads = dense_gradients(*exact, *expected, grad, ((0, 5),))
    for actual, close in zip(results, (*expected, *grads), strict=True):
      self.assertEqual(actual.dtype, np.float32)
      np.testing.assert_allclose(actual, close, rtol=0.0, atol=atol)

  def test_large_scores(self):
    """Scores beyond the range of exp neither overflow nor vanish."""
    query, key, value, grad = inputs(9, np.float32)
    results = both(200 * query, 200 * key, value, grad, pairs=((1, 8),))
    for x in results[2:]:
      self.assertTrue(np.isfinite(x).all())
    out, lse, *_ = results
    np.testing.assert_array_equal(out[:, 0], 0.0)
    self.assertTrue(np.isneginf(lse[..., 0]).all())
    self.assertTrue(np.isfinite(lse[..., 1:]).all())
    self.assertGreater(float(lse[..., 1:].max()), 1000.0)

  @parameterized.parameters(("tpu", "float16"), ("tpu", "float64"))
  def test_dtypes_a_platform_lacks_are_refused(self, platform, dtype):
    """With one line, before a compiler says it in a hundred."""
    x = jax.ShapeDtypeStruct((1, 4, 1, 8), dtype)
    run = functools.partial(
      pallas_launch.forward, pairs=((0, 3),), scale=1.0, platform=platform
    )
    with jax.enable_x64(True):
      with self.assertRaisesRegex(ValueError, f"no {dtype} .* on {platform}"):
        jax.eval_shape(run, x, x, x)


class LoweringTest(base.TestCase):
  @parameterized.product(
    target=("cuda", "tpu"),
    dtype=("float32", "bfloat16"),
    shape=((1, 1, 1, 8), (2, 300, 2, 80)),
  )
  def test_lowers_without_the_device(self, target, dtype, shape):
    """Every kernel lowers to what the platform's own compiler takes."""
    batch, length, heads, _ = shape
    platform = "gpu" if target == "cuda" else "tpu"
    pairs = ((0, length - 1),)

    @jax.vmap
    def run(query, key, value, grad):
      out, lse = pallas_launch.forward(
        query, key, value, pairs=pairs, scale=SCALE, platform=platform
      )
      return backward(
        *(query, key, value, out, lse, grad),
        pairs=pairs,
        key_pairs=(pairs, ((0, 0),)),
        value_pairs=(pairs,),
        platform=platform,
        interpret=False,
      )

    x = jax.ShapeDtypeStruct((3, *shape), dtype)
    check = export.DisabledSafetyCheck.custom_call(TARGETS[target])
    # Since JAX 0.11, Triton asks which GPU it is for, and says that it will go.
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
